"""Numbers of ticks: what `fastws bench` says of gaps, ticks that come twice or too late."""

import select
import socket
import struct
import time
from collections.abc import Callable

import pytest
from scripted import Scripted

from fastws._ticks import Ticks
from fastws.bench.measurement import BenchOptions, Measurement
from fastws.bench.numbers import Counts, Numbers, numbers_of
from fastws.bench.report import benchmark_object, summary
from fastws.bench.run import Bench
from fastws.client.url import parse_url

CLOSE = b"\x88\x02\x03\xe8"


def ticks_of(*numbers: int) -> bytes:
    """Binary ticks with those numbers, due now."""
    frame = Ticks(seed=1, format="binary", fields="seq").frames(1, time.time_ns())
    return b"".join(frame[:22] + struct.pack("<Q", n) + frame[30:] for n in numbers)


def in_turns(order: Callable[[int], list[int]]) -> Callable[[socket.socket], None]:
    """A server that sends, every few milliseconds, the numbers of the n-th ten."""

    def talk(client: socket.socket) -> None:
        for turn in range(10**6):
            client.sendall(ticks_of(*order(10 * turn)))
            if select.select([client], [], [], 0.005)[0] and b"\x88\x82" in client.recv(4096):
                client.sendall(CLOSE)
                return

    return talk


def measure(order: Callable[[int], list[int]], clients: int = 2) -> Measurement:
    with Scripted(in_turns(order)) as server:
        return Bench(BenchOptions(parse_url(server.url), clients, 0.5, 0.0)).run()


def test_ticks_in_order_are_no_gap() -> None:
    measured = measure(lambda n: list(range(n, n + 10)))
    assert measured.failures == []
    assert measured.numbers is not None
    assert (measured.numbers.connections, measured.numbers.missed) == (2, 0)
    assert "gaps        none: every client got every tick" in summary(measured)


def test_what_is_left_out_is_missed_and_no_failure() -> None:
    measured = measure(lambda n: [n, *range(n + 3, n + 10)])
    numbers = measured.numbers
    assert measured.failures == []
    assert numbers is not None
    assert numbers.missed == 2 * numbers.gaps > 100
    assert (numbers.missing, numbers.duplicates, numbers.reordered) == (2, 0, 0)
    assert numbers.worst.missed == 2 * numbers.worst.gaps >= numbers.missed / 2
    row = next(line for line in summary(measured) if line.startswith("gaps"))
    assert f"{numbers.missed:,} ticks missed in {numbers.gaps:,} gaps, by 2 of 2 clients" in row
    config = benchmark_object(measured)["config"]
    assert isinstance(config, dict)
    assert config["missed"] == numbers.to_wire()


@pytest.mark.parametrize(
    ("order", "says"),
    [
        (lambda n: [*range(n, n + 10), n + 5], "ticks that came twice: "),
        (lambda n: [*range(n, n + 5), *range(n + 6, n + 10), n + 5], "ticks that came behind lat"),
    ],
)
def test_ticks_that_come_twice_or_too_late_are_failures(
    order: Callable[[int], list[int]], says: str
) -> None:
    measured = measure(order)
    numbers = measured.numbers
    assert numbers is not None
    assert len(measured.failures) == 1
    assert measured.failures[0].startswith(says)
    assert numbers.duplicates + numbers.reordered > 50
    assert any(line.startswith(f"FAILED      {says}") for line in summary(measured))


def test_the_worst_client_is_the_one_that_missed_most() -> None:
    counted = [Counts(10, 100), Counts(8, 80, 1, 2), Counts(7, 70, 2, 3, 1, 0), Counts(9, 90, 1, 1)]
    assert numbers_of(counted) == Numbers(4, 6, 4, 3, counted[2], 1, 0)
    assert str(numbers_of(counted[:1])) == "none: every client got every tick"
    assert counted[2].since(counted[1]) == Counts(-1, -10, 1, 1, 1, 0)
    assert numbers_of([]) == Numbers()
