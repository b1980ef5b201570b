"""What every file that a person may look at says of its use."""

from __future__ import annotations

NOTICE = "research use, not for diagnosis"
