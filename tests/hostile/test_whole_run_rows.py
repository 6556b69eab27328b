"""R: after everything else that was done to a server; the name keeps this file last."""

import pytest
from servers import Place
from surroundings import INSTRUMENTED
from wire import TEXT

MIB = 1 << 20


@pytest.mark.hostile("R07")
def test_three_hundred_are_open_and_answered_after_all_that(echo: Place) -> None:
    wires = [echo.open() for _ in range(300)]
    for i, wire in enumerate(wires):
        wire.message(TEXT, b"%d" % i)
    for i, wire in enumerate(wires):
        wire.echoes(TEXT, b"%d" % i)


@pytest.mark.hostile("R30")
def test_descriptors_and_memory_are_back_where_they_were(echo: Place) -> None:
    assert echo.comes_to_rest()  # to the very number of the beginning
    assert INSTRUMENTED or echo.rss_bytes() < 200 * MIB
