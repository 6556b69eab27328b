"""Types of the generator of ticks; the contracts stand in `_ticks.pyx`."""

from typing import Self, final

from fastws.ticks.config import Fields, Format

FORMATS: dict[str, int]
FIELDS: dict[str, int]

@final
class Ticks:
    def __new__(cls, *, seed: int, format: Format = "json", fields: Fields = "base") -> Self: ...
    def frames(self, n: int, ts_ns: int) -> bytes: ...
    def spin(self, n: int, ts_ns: int) -> int: ...
