"""What all tests of the laboratory share with those of the product."""

from __future__ import annotations

from session import data_folder

__all__ = ["data_folder"]
