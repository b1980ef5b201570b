"""``ddmseg bench``: seconds, memory and agreement of the tiers, side by side on one machine.

``tiers`` names what a user may pick, ``workbench`` runs it and times the parts of the network,
``process`` measures commands from outside. ``jobs`` lists all of it as single measurements,
``run`` does those that are missing, ``summary`` adds them up and is the chapter on the page.
"""
