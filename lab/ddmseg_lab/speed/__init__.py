"""Seconds and memory on one machine, one file per question.

``segment`` times modes and stages, ``memory`` holds the estimate against the peak, ``bench``
(``ddmseg bench``) puts tiers and other tools side by side and lets sizes grow, ``synthesis`` times
training patches, ``quantisation`` engines and eight bits. ``runs`` is what one run costs.
"""
