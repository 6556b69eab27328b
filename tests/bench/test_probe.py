"""What a server says of itself, read from its counters."""

from fastws.bench.probe import ServerStats, counted_between, rate_between


def view(at: float, delivered: int | None, rate: float | None) -> ServerStats:
    return ServerStats(at, delivered, rate, "max", {})


def test_the_servers_rate_is_from_its_counter_or_else_what_it_says() -> None:
    assert rate_between(view(1, 100, 7), view(3, 300, 9)) == 100
    assert rate_between(view(1, None, 7), view(3, None, 9)) == 8
    assert rate_between(view(1, None, None), view(3, None, 9)) is None
    assert rate_between(None, view(3, 300, 9)) is None


def test_a_counter_that_is_not_told_has_no_rate() -> None:
    first = ServerStats(1.0, 100, None, 10, {}, published=200, dropped=0)
    last = ServerStats(3.0, 300, None, 10, {}, published=1200, dropped=None)
    assert counted_between(first, last, "published") == 500
    assert counted_between(first, last, "dropped") is None
    assert counted_between(None, last, "published") is None
