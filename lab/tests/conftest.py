"""What all tests of the laboratory share with those of the product."""

from __future__ import annotations

from session import data_folder, hosts_asked_for, nothing_leaves_the_machine

__all__ = ["data_folder", "hosts_asked_for", "nothing_leaves_the_machine"]
