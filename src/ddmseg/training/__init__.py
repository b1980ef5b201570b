"""Training: batches, losses, the loop, its curve and its validation."""
