"""How long to wait before trying again."""

from __future__ import annotations

from dataclasses import dataclass

from ddmseg.errors import SettingsError


@dataclass(frozen=True)
class Backoff:
    """Waits that double from try to try, up to a limit, each shortened at random.

    The random part keeps what failed together from coming back together.

    Attributes:
        first_seconds: before the second try, above 0.
        longest_seconds: never more than this.
    """

    first_seconds: float = 10.0
    longest_seconds: float = 900.0

    def __post_init__(self) -> None:
        if not 0 < self.first_seconds <= self.longest_seconds:
            raise SettingsError(
                f"retry: got {self.first_seconds:g} to {self.longest_seconds:g} s; the first wait "
                "must be above 0 and not above the longest"
            )

    def seconds(self, failures: int, draw: float) -> float:
        """Return the wait after so many failures in a row.

        Args:
            failures: at least 1.
            draw: from [0, 1); the wait lies between half of its full length and all of it.
        """
        # 2 ** 1000 is still a float; a power beyond that is not
        full = min(self.longest_seconds, self.first_seconds * 2.0 ** min(failures - 1, 1000))
        return full * (1 - draw / 2)
