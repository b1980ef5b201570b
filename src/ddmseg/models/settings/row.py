"""What a row of a table is beyond its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ddmseg.models.settings.checks import require


@dataclass(frozen=True)
class RowSettings:
    """What a row of a table is beyond its training.

    Attributes:
        title: in the table.
        weights_of: row whose weights are tested with this row's sampling; empty: own.
        members: rows whose probabilities are averaged; nothing is trained then.
        adapter: program that trains and predicts in place of our networks, see
            ``ddmseg_lab.comparison.nnunet``; empty: none. Of the other settings it heeds
            those of the data, ``training.steps`` times ``training.batch`` as the examples
            that it may see, and ``training.seed``, ``threads`` and ``device``.
        configuration: of nnU-Net.
    """

    title: str = ""
    weights_of: str = ""
    members: tuple[str, ...] = ()
    adapter: Literal["", "nnunet"] = ""
    configuration: Literal["", "2d", "3d_fullres"] = ""

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        require(
            not (self.weights_of and self.members),
            "row.members",
            self.members,
            "leave it out where row.weights_of is given",
        )
        for name in ("weights_of", "members"):
            value = getattr(self, name)
            require(
                not (self.adapter and value),
                f"row.{name}",
                value,
                f"leave it out where row.adapter is {self.adapter}, which trains its own",
            )
        require(
            bool(self.adapter) == bool(self.configuration),
            "row.configuration",
            repr(self.configuration),
            "give 2d or 3d_fullres with row.adapter nnunet, and nothing without",
        )
