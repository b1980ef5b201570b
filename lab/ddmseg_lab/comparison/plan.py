"""A table of evidence as a folder: ``table.toml`` and one settings file a row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ddmseg.errors import SettingsError, UsageError, did_you_mean
from ddmseg.models.settings import Settings, read_settings
from ddmseg.models.settings_reader import read_toml, settings_from_dict

TABLE_FILE = "table.toml"
ONE_SPLIT = "test"
"""Name of the only fold of a data set that has one fixed split."""
OF_IMAGES = ("kind", "maps", "normalisation", "bias_field", "resample_mm")
"""Settings of the data that decide how a test image looks."""


@dataclass(frozen=True)
class TableSettings:
    """What a table shows.

    Attributes:
        references: rows that every other row is tested against.
        folds: splits tested one after the other; empty for the data set's one split.
        note: what a reader must know before comparing.
        contrasts: pairs of rows to compare beside that, such as ``"ddm - plain"``.
        asked_dice: mean Dice that the best of our converged rows should reach, 0 for nothing
            asked.
        asked_pair: pair of rows whose first should lose no more than ``asked_loss`` Dice.
        asked_loss: above or at 0.
    """

    title: str
    rows: tuple[str, ...]
    references: tuple[str, ...]
    folds: tuple[str, ...] = ()
    note: str = ""
    contrasts: tuple[str, ...] = ()
    asked_dice: float = 0.0
    asked_pair: str = ""
    asked_loss: float = 0.002

    @staticmethod
    def pair(words: str) -> tuple[str, str]:
        """Return both rows of ``"ddm - plain"``."""
        one, _, other = words.partition(" - ")
        return one.strip(), other.strip()

    @property
    def fold_names(self) -> tuple[str, ...]:
        """Names of the folds, at least one."""
        return self.folds or (ONE_SPLIT,)


@dataclass(frozen=True)
class Plan:
    """A table and the settings of its rows."""

    folder: Path
    table: TableSettings
    rows: dict[str, Settings]

    @property
    def name(self) -> str:
        """Of the table."""
        return self.folder.name

    @property
    def folds(self) -> tuple[str, ...]:
        """Names of the folds, at least one."""
        return self.table.fold_names

    def lenders(self, row: str) -> tuple[str, ...]:
        """Return the rows whose weights a row uses, none when it has its own."""
        own = self.rows[row].row
        return own.members or ((own.weights_of,) if own.weights_of else ())

    def settings(self, row: str, fold: str) -> Settings:
        """Return the settings of one row in one fold."""
        if row not in self.rows:
            raise UsageError(
                f"row: got '{row}'{did_you_mean(row, self.rows)}; "
                f"{self.name} has {', '.join(self.rows)}"
            )
        settings = self.rows[row]
        if fold == ONE_SPLIT:
            return settings
        return replace(settings, data=replace(settings.data, fold=fold))


def read_table(folder: Path) -> TableSettings:
    """Read ``table.toml`` alone."""
    return settings_from_dict(TableSettings, read_toml(folder / TABLE_FILE))


def read_plan(folder: Path) -> Plan:
    """Read and check a folder of rows."""
    table = read_table(folder)
    rows = {name: read_settings(folder / f"{name}.toml") for name in table.rows}
    named = [("references", one) for one in table.references]
    named += [("contrasts", one) for pair in map(table.pair, table.contrasts) for one in pair]
    named += [("asked_pair", one) for one in table.pair(table.asked_pair) if table.asked_pair]
    for name, settings in rows.items():
        named += [(f"{name}: row.members", one) for one in settings.row.members]
        if settings.row.weights_of:
            named.append((f"{name}: row.weights_of", settings.row.weights_of))
    for place, one in named:
        if one not in rows:
            raise SettingsError(
                f"{folder / TABLE_FILE}: {place}: got '{one}'{did_you_mean(one, rows)}; "
                f"allowed are {', '.join(rows)}"
            )
    plan = Plan(folder, table, rows)
    for name in rows:
        for member in plan.lenders(name):
            other = rows[member].row
            if other.weights_of or other.members or other.adapter:
                raise SettingsError(
                    f"{name}: '{member}' has no weights of its own; name one that has"
                )
            for setting in OF_IMAGES:  # no network may see other images than it was trained on
                here, there = (getattr(rows[one].data, setting) for one in (name, member))
                if here != there:
                    raise SettingsError(
                        f"{name}: data.{setting}: got {here}; '{member}', whose weights it uses, "
                        f"has {there}: make both equal"
                    )
    return plan
