"""A model too small to know anything."""

from real_command import tiny_model

__all__ = ["tiny_model"]
