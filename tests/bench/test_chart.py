"""The chart of a ceiling, and what is said where matplotlib is not installed."""

import importlib.util
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastws.bench import ceiling_report
from fastws.bench.ceiling import Ceiling, CeilingOptions
from fastws.bench.chart import NoChart, draw, pyplot
from fastws.bench.search import Found
from fastws.bench.verdict import Trial
from fastws.cli.ceiling import ceiling

HAS_MATPLOTLIB = importlib.util.find_spec("matplotlib") is not None
LOW = Trial(1000, 30.0, "good", published_rate=1000.0, client_rate=1000.0, p99_ms=1.5)
HIGH = Trial(1050, 5.0, "bad", "the backlog grew", 1050.0, 1002.0, unread_share=0.9)
FOUND = Ceiling(
    options=CeilingOptions(client_id="browser"),
    at=datetime(2026, 2, 1, 12, tzinfo=UTC),
    client_id="browser",
    found=Found(LOW, HIGH, True, (LOW, HIGH)),
    points=(LOW, HIGH),
    capacity=27e6,
    seconds=100.0,
    interrupted=False,
)


@pytest.mark.skipif(not HAS_MATPLOTLIB, reason="matplotlib is not installed")
@pytest.mark.filterwarnings("ignore")  # matplotlib's own
def test_the_chart_is_svg(tmp_path: Path) -> None:
    draw(FOUND, str(tmp_path / "chart.svg"))
    assert "<svg" in (tmp_path / "chart.svg").read_text()


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr("fastws.bench.chart.importlib.import_module", missing)
    with pytest.raises(NoChart, match=r"pip install 'fastws\[chart\]'"):
        pyplot()
    done = CliRunner().invoke(ceiling, ["--builtin", "native", "--chart", "x.svg"])
    assert done.exit_code == 1
    assert "a chart needs matplotlib" in done.output


def test_the_lines_say_ceiling_verdict_and_headroom() -> None:
    lines = "\n".join(ceiling_report.summary(FOUND))
    for said in (
        "ceiling     1,000/s [1,000-1,050]",
        "saturated   1,002/s in overload",
        "p99         1.5 ms",
        "verdict     limited by client",
        "headroom 27000.0",
        "confirmed   for 30 s",
    ):
        assert said in lines


def test_without_a_good_rate_the_lines_say_why() -> None:
    nothing = Ceiling(
        **{**{name: getattr(FOUND, name) for name in Ceiling.__slots__}, "points": ()}
        | {"found": Found(None, HIGH, False, (HIGH,))}
    )
    assert "not known: the backlog grew at 1,050/s" in ceiling_report.summary(nothing)[0]
    assert ceiling_report.ceiling_object(nothing)["ceiling"] is None
    assert ceiling_report.benchmark_object(nothing)["results"] == []
    assert ceiling_report.comparison_object(nothing)["results"] == []
