"""Trust documents from measured files alone: what was not measured is said not to be."""
