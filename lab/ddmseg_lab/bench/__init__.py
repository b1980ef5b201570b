"""``ddmseg bench``: seconds, memory and agreement of the tiers, side by side on one machine.

``tiers`` names what a user may pick, ``stages`` the parts of the network, ``scaling`` what is
made larger, ``process`` measures commands from outside. ``jobs`` lists all of it as single
measurements, ``run`` does those that are missing, ``summary`` adds them up.
"""
