"""The checker that pytest puts on every function of ddmseg: shapes and types at run time."""

import io
from collections.abc import Callable
from typing import Any, BinaryIO

from beartype import BeartypeConf, FrozenDict, beartype
from beartype.roar import BeartypeDecorHintPep3119Exception

_CHECKER = beartype(
    conf=BeartypeConf(
        # PEP 484: where a float is asked for, an int will do
        is_pep484_tower=True,
        # no open file is an instance of typing.BinaryIO, which is for static checkers alone
        hint_overrides=FrozenDict({BinaryIO: io.IOBase}),
    )
)


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check calls of a function, unless a protocol in its hints can only be checked statically."""
    try:
        return _CHECKER(function)
    except BeartypeDecorHintPep3119Exception:
        return function
