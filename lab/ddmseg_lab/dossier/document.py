"""The form that every document has: title, what it is for, what it was made of."""

from __future__ import annotations

from collections.abc import Sequence

from ddmseg import __version__

NOTICE = "Research use, not for diagnosis."
MADE = f"Made by `ddmseg dossier` {__version__}; every figure is read from a record."


def document(title: str, parts: Sequence[str]) -> str:
    """Return a Markdown document that begins with what it may be used for."""
    return "\n\n".join([f"# {title}", f"**{NOTICE}** {MADE}", *parts]) + "\n"


def rows(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    r"""Return a table of words, in which no cell can break out of its place.

    >>> print(rows(["what", "how"], [["a", "b | c"]]))
    | what | how |
    |:--|:--|
    | a | b \| c |
    """
    lines = [f"| {' | '.join(map(cell, row))} |" for row in (header, *body)]
    lines.insert(1, f"|{'|'.join([':--'] * len(header))}|")
    return "\n".join(lines)


def cell(text: str) -> str:
    r"""Return text that stays within one cell of a Markdown table.

    >>> cell("a | b\nc")
    'a \\| b c'
    """
    return " ".join(text.split()).replace("|", "\\|")


def bullets(items: Sequence[str]) -> str:
    """Return a Markdown list."""
    return "\n".join(f"- {' '.join(item.split())}" for item in items)
