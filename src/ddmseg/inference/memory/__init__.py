"""How much memory there is, how much a scan takes, and what is done when it is short."""
