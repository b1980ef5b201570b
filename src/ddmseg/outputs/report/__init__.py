"""The report of one segmentation: one HTML page that needs no other file but volumes."""
