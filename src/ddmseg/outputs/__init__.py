"""Everything that a segmentation leaves on the disk."""
