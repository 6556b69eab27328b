"""The comparison with other servers: what of it needs no socket."""

import dataclasses
import json
import random
from pathlib import Path

import pytest

from benchmarks.compare.agree import apart, spreads
from benchmarks.compare.cells import BASE, CELLS, QUICK, Cell, Kind, chosen, picked
from benchmarks.compare.charts import amount, charts
from benchmarks.compare.figures import Sample, entry, ratios, spread
from benchmarks.compare.load import Measured
from benchmarks.compare.messages import (
    MASK,
    client_stream,
    frame_size,
    header,
    masked,
    message,
    messages,
    ring_size,
    server_stream,
)
from benchmarks.compare.peers.common import Options, Rooms, Source
from benchmarks.compare.report import as_json, entries, json_text, markdown
from benchmarks.compare.rows import Peer, run_frames
from benchmarks.compare.running import Plan, steps_of_round


def peer(name: str, missing: str = "", *, echoes: bool = True) -> Peer:
    return Peer(
        name,
        "as it is",
        missing,
        lambda *_: [],
        lambda cell: "" if echoes or cell.kind is not Kind.ECHO else "no echo",
    )


def sample(name: str, number: int, rate: float | None, cell: str = "base") -> Sample:
    if rate is None:
        return Sample(name, cell, number, None, "nothing came")
    return Sample(name, cell, number, Measured(rate, 100.0, 0.5))


def plan(*peers: Peer, rounds: int = 2) -> Plan:
    return Plan(list(peers), [BASE, Cell("echo", Kind.ECHO)], rounds, 0.1, 0.1, 0, 1, 7)


@pytest.mark.parametrize("size", [28, 110, 125, 126, 1024, 16_384, 65_535, 65_536])
def test_messages_have_their_size_and_differ_within_the_ring(size: int) -> None:
    ring = messages(size)
    assert {len(each) for each in ring} == {size}
    assert len(set(ring)) == len(ring) == ring_size(size)
    stream = server_stream(size)
    assert len(stream) == len(ring) * frame_size(size) <= 1 << 20
    assert stream[frame_size(size) :].startswith(header(size) + message(1, size).encode())


def test_a_message_below_the_least_size_is_refused() -> None:
    with pytest.raises(ValueError, match="28 bytes at least"):
        messages(27)


def test_the_burst_of_a_server_goes_to_the_topics_in_turn() -> None:
    load = Options(port=0, clients=1, size=110, burst=3, free=False, topics=2, echo=False)
    source = Source(load)
    source.told("go 5")
    assert not source.due
    source.joined()
    assert source.due
    names, texts = zip(*source.burst(), strict=True)
    assert names == ("topic/0", "topic/1", "topic/0")
    assert texts == tuple(messages(110)[:3])
    assert not source.due
    source.told(b"go 1")
    assert source.burst()[0] == ("topic/1", messages(110)[3])


def test_a_room_has_each_client_once_in_every_topic() -> None:
    load = Options(port=0, clients=2, size=110, burst=1, free=False, topics=3, echo=False)
    source = Source(load)
    rooms = Rooms[str](source)
    rooms.join("a")
    rooms.join("b")
    assert rooms.of == {topic: {"a", "b"} for topic in source.topics}
    assert source.clients == 2
    assert load.echoes("/quiet")
    assert not load.echoes("/")


def test_the_frames_of_the_client_are_masked_messages() -> None:
    first = client_stream(110)[: 6 + 110]
    assert first[:6] == b"\x81\xee" + MASK
    assert masked(first[6:]) == message(0, 110).encode()


def test_a_choice_keeps_the_order_of_the_table_and_refuses_the_unknown() -> None:
    assert picked(None, ["a", "b"]) == ["a", "b"]
    assert picked("b, a", ["a", "b", "c"]) == ["a", "b"]
    assert [cell.name for cell in chosen("echo-1,base")] == ["base", "echo-1"]
    with pytest.raises(ValueError, match="z is unknown; there are a, b"):
        picked("a,z", ["a", "b"])


def test_cells_differ_and_those_of_quick_are_among_them() -> None:
    without_names = {dataclasses.replace(cell, name="") for cell in CELLS}
    assert len(without_names) == len(CELLS) == len({cell.name for cell in CELLS})
    assert [cell.name for cell in chosen(QUICK)] == [
        cell.name for cell in CELLS if cell.name in QUICK.split(",")
    ]


def test_a_burst_has_one_message_for_each_topic() -> None:
    for cell in CELLS:
        assert cell.topics in (1, cell.burst)


def test_windows_are_whole_bursts_and_two_of_them_at_least() -> None:
    for cell in [*CELLS, Cell("x", burst=1024), Cell("y", size=1 << 20), Cell("z", burst=32)]:
        assert cell.window % cell.burst == 0
        assert cell.window >= 2 * cell.burst


def test_runs_of_the_bare_loop_fit_into_the_ring() -> None:
    assert run_frames(Cell("burst", burst=32)) == 32
    assert run_frames(Cell("large", size=16_384, burst=512)) == ring_size(16_384)


def test_a_ratio_is_that_of_one_round() -> None:
    samples = [sample("fastws", 0, 100.0), sample("fastws", 1, 200.0), sample("fastws", 2, None)]
    samples += [sample("other", 0, 50.0), sample("other", 1, 50.0), sample("other", 2, 1.0)]
    samples += [sample("other", 0, 9.0, "another cell")]
    assert ratios(samples, "other", "base", "fastws") == [0.5, 0.25]
    assert ratios(samples, "other", "base", "absent") == []


def test_an_entry_holds_median_spread_and_failures() -> None:
    samples = [sample("fastws", n, 10.0) for n in range(4)]
    samples += [sample("other", n, rate) for n, rate in enumerate([1.0, 3.0, 20.0, None])]
    found = entry(samples, "other", "base", "fastws")
    assert found.rounds == 3
    assert found.ratio is not None
    assert (found.ratio.median, found.ratio.least, found.ratio.most) == (0.3, 0.1, 2.0)
    assert found.failures == ("nothing came",)
    assert spread([]) is None


def test_a_round_has_every_row_that_is_there_in_an_order_of_its_own() -> None:
    rows = [peer(f"p{i}") for i in range(6)] + [peer("bare", echoes=False), peer("no", "gone")]
    order = random.Random(1)
    first, second = (steps_of_round(plan(*rows), number, order) for number in range(2))
    names = [
        [each.name for _, cell, rows in steps if cell is BASE for each in rows]
        for steps in (first, second)
    ]
    assert names[0] != names[1]
    assert sorted(names[0]) == sorted(names[1]) == sorted([*(f"p{i}" for i in range(6)), "bare"])
    assert "bare" not in [each.name for _, cell, rows in first if cell is not BASE for each in rows]


def test_the_table_shows_ratios_and_says_what_is_missing() -> None:
    rows = plan(peer("fastws"), peer("other", echoes=False), peer("gone", "not installed"))
    samples = [sample("fastws", n, 100.0) for n in range(2)]
    samples += [sample("other", n, 50.0) for n in range(2)]
    samples += [sample("fastws", n, 100.0, "echo") for n in range(2)]
    text = markdown(rows, entries(rows, samples))
    assert "Stopped early" not in text
    assert "Stopped early" in markdown(rows, entries(rows, samples[:-1]))
    assert "| other | 0.50 [0.50-0.50] | - |" in text
    assert "- gone: as it is. **Missing**: not installed." in text
    assert "- other: as it is. echo: no echo." in text
    assert "| gone |" not in text


def reported(*rates: float) -> dict[str, object]:
    """The JSON of a comparison in which `other` had those rates, and fastws 100."""
    rows = plan(peer("fastws"), peer("other"), rounds=len(rates))
    samples = [sample("fastws", n, 100.0) for n in range(len(rates))]
    samples += [sample("other", n, rate) for n, rate in enumerate(rates)]
    found = json.loads(json_text(as_json(rows, samples, entries(rows, samples))))
    assert isinstance(found, dict)
    assert len(found["samples"]) == 2 * len(rates)
    return found


@pytest.mark.parametrize(
    ("first", "second", "lines"),
    [
        ((10, 20), (20, 30), []),
        ((10, 40), (20, 30), []),
        ((10, 20), (21, 30), ["base, other: 0.15 [0.1-0.2] and 0.255 [0.21-0.3]"]),
        ((21, 30), (10, 20), ["base, other: 0.255 [0.21-0.3] and 0.15 [0.1-0.2]"]),
    ],
)
def test_two_comparisons_agree_where_their_spreads_overlap(
    first: tuple[int, int], second: tuple[int, int], lines: list[str]
) -> None:
    assert apart(spreads(reported(*first)), spreads(reported(*second))) == lines


@pytest.mark.parametrize(
    ("value", "text"),
    [(999, "999"), (39_800, "39.8 k"), (272_702, "273 k"), (67_770_279, "67.8 M")],
)
def test_rates_are_short_in_charts(value: float, text: str) -> None:
    assert amount(value) == text


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_charts_name_every_row_that_was_measured(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = plan(peer("fastws"), peer("other"), peer("gone", "not installed"))
    samples = [sample(name, n, 100.0) for n in range(2) for name in ("fastws", "other")]
    assert "compare-headline.svg" in charts(rows, entries(rows, samples), tmp_path)
    names = {"compare.png", "compare.svg", "compare-headline.png", "compare-headline.svg"}
    assert {path.name for path in tmp_path.iterdir()} == names
    for name in ("compare.svg", "compare-headline.svg"):
        drawn = (tmp_path / name).read_text()
        assert "<!-- fastws -->" in drawn
        assert "<!-- other -->" in drawn
        assert "<!-- gone -->" not in drawn
