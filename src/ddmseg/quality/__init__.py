"""How good a result is expected to be, what is odd about it, and the verdict."""
