"""Types of the generator of ticks; the contracts stand in `_ticks.pyx`."""

from typing import final

from fastws.ticks.config import Fields, Format

@final
class Ticks:
    def __init__(self, *, seed: int, format: Format = "json", fields: Fields = "base") -> None: ...
    def frames(self, n: int, ts_ns: int) -> bytes: ...
    def spin(self, n: int, ts_ns: int) -> int: ...
