"""Looking at results: scans of an output folder, doubtful places, corrections, decisions."""
