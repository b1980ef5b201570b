"""What stands beside a table: its use and its columns, for no table has room for a sentence.

Programs read tables line by line, so a notice among the lines would be taken for data. BIDS
puts what belongs to a table into a JSON file of the same name, its *data dictionary*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ddmseg.imaging.notice import NOTICE

NO_UNIT = "n/a"
"""What BIDS writes where there is nothing to write."""


@dataclass(frozen=True)
class ColumnMeaning:
    """What a column holds, and its unit in the spelling of BIDS, such as ``mL``."""

    description: str
    unit: str = NO_UNIT


def data_dictionary(columns: Mapping[str, ColumnMeaning]) -> dict[str, Any]:
    """Return the dictionary of a table, ready for JSON.

    Source: BIDS 1.9, Common principles, "Tabular files".

    >>> data_dictionary({"index": ColumnMeaning("id")})["index"]
    {'Description': 'id', 'Units': 'n/a'}
    """
    told = {
        name: {"Description": column.description, "Units": column.unit}
        for name, column in columns.items()
    }
    return {"notice": NOTICE, **told}
