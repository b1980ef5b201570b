"""A model too small to know anything, and the real command."""

from __future__ import annotations

from real_command import _own_cache, ddmseg, segment, tiny_model

__all__ = ["_own_cache", "ddmseg", "segment", "tiny_model"]
