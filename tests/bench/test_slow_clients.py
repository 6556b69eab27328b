"""`fastws bench --slow`: some of the clients read slowly, and are told apart."""

from collections.abc import Callable
from typing import Any

import pytest

from fastws.bench.measurement import BenchOptions, Measurement, SlowRate
from fastws.bench.report import benchmark_object, summary
from fastws.bench.run import Bench
from fastws.client.url import parse_url
from fastws.errors import ConfigError

Serve = Callable[..., str]
URL = parse_url("ws://127.0.0.1:1")
SLOW = SlowRate(20_000, percent=False)


def measure(url: str, **options: Any) -> Measurement:
    return Bench(BenchOptions(parse_url(url), **({"duration": 2.0, "warmup": 0.5} | options))).run()


def test_slow_clients_read_at_their_rate_and_miss_ticks_while_the_rest_gets_all(
    serve: Serve,
) -> None:
    url = serve("--rate", "10000", "--fields", "seq")
    measured = measure(url, clients=6, slow=2, slow_rate=SLOW, policy="latest", duration=4.0)
    slow, numbers = measured.slow, measured.numbers
    assert measured.failures == []
    assert numbers is not None
    assert (numbers.connections, numbers.missed) == (4, 0)
    assert len(measured.per_client) == 4
    assert slow is not None
    assert slow.numbers is not None
    assert slow.numbers.connections == slow.numbers.missing == 2
    assert slow.numbers.missed > 10_000
    assert slow.bytes / 4.0 / 2 == pytest.approx(20_000, rel=0.3)
    assert slow.latency is not None
    assert measured.latency is not None
    # What waits in the kernels, 64 KiB at least, is 3 s old at that rate.
    assert slow.latency.p50 > 1000 > measured.latency.p50


def test_a_share_of_the_feed_is_that_of_what_a_fast_client_gets(serve: Serve) -> None:
    measured = measure(serve("--rate", "5000"), clients=2, slow=1, slow_rate=SlowRate(10))
    assert measured.slow_bytes_per_s == pytest.approx(measured.bytes_per_s / 10, rel=0.2)


def test_all_may_be_slow(serve: Serve) -> None:
    url = serve("--rate", "2000", "--fields", "seq")
    measured = measure(url, clients=2, slow=2, slow_rate=SLOW)
    assert measured.failures == []
    assert (measured.frames, list(measured.per_client)) == (0, [])
    assert measured.slow is not None
    assert min(measured.slow.per_client) > 0
    assert any(line.startswith("slow frames") for line in summary(measured))


def test_slow_clients_that_a_policy_closes_are_told_and_no_failure(serve: Serve) -> None:
    url = serve("--rate", "50000", "--fields", "seq")
    measured = measure(url, clients=2, slow=1, slow_rate=SLOW, policy="close", duration=6.0)
    assert measured.failures == []
    assert measured.slow is not None
    assert measured.slow.ended == {1013: 1}
    assert "slow closed 1 with 1013" in summary(measured)
    assert measured.numbers is not None
    assert measured.numbers.missed == 0


def test_the_lines_and_the_file_show_the_slow_apart(serve: Serve) -> None:
    url = serve("--rate", "10000", "--fields", "seq")
    measured = measure(url, clients=3, slow=1, slow_rate=SLOW, policy="drop_oldest")
    lines = {line[:11].rstrip(): line[12:] for line in summary(measured)}
    assert lines["clients"] == "2, and 1 slow ones that read 20,000 bytes/s each"
    assert lines["gaps"] == "none: every client got every tick"
    assert "of a client" in lines["slow frames"]
    assert lines["slow age"].endswith("ms (from tsNs)")
    assert lines["verdict"].startswith("Keeping up (")
    config = benchmark_object(measured)["config"]
    assert isinstance(config, dict)
    assert config["policy"] == "drop_oldest"
    assert config["slow"]["clients"] == 1
    assert config["slow"]["bytesPerSec"] == 20_000
    assert config["slow"]["ageMs"].keys() == config["ageMs"].keys() == {"p50", "p99", "max"}
    assert config["missed"]["missed"] == 0
    alone = benchmark_object(measure(url, duration=0.3))["config"]
    assert isinstance(alone, dict)
    assert (alone["slow"], alone["policy"]) == (None, None)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"slow": 3, "clients": 2}, "slow: must be from 0 to 2, the number of clients"),
    ({"slow": -1}, "slow: must be from 0"),
    ({"slow": 2, "clients": 2}, "slow_rate: in percent needs a client that is not slow"),
    ({"slow_rate": SlowRate(0)}, "slow_rate: must be more than 0 %"),
    ({"slow_rate": SlowRate(float("nan"))}, "slow_rate: must be more than 0 %"),
    ({"slow_rate": SlowRate(999, percent=False)}, "slow_rate: must be from 1,000 bytes a second"),
    ({"slow": 1, "clients": 2, "any": True, "echo": 1}, "slow: is for what a server pushes"),
]


@pytest.mark.parametrize(("options", "says"), BAD)
def test_a_bad_option_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        BenchOptions(URL, **options)
    assert str(caught.value).startswith(says)


def test_a_policy_is_asked_for_in_the_query() -> None:
    for path, target in (
        ("", "/?onSlow=latest"),
        ("/topics/t?key=a", "/topics/t?key=a&onSlow=latest"),
    ):
        url = parse_url(f"ws://127.0.0.1:1{path}")
        assert BenchOptions(url, policy="latest").asked_url.target == target


def test_a_policy_that_the_url_has_already_is_refused() -> None:
    url = parse_url("ws://127.0.0.1:1/topics/t?onSlow=close")
    assert BenchOptions(url).asked_url is url
    with pytest.raises(ConfigError, match="policy: stands in the URL already"):
        BenchOptions(url, policy="latest")
