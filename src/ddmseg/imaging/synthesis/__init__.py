"""Images painted from label maps, so that training sees every contrast."""
