"""The chart of a ceiling, and what is said where matplotlib is not installed."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
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

ROOT = Path(__file__).resolve().parents[2]
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


def written(folder: Path, name: str, ceiling: Ceiling) -> str:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(ceiling_report.ceiling_object(ceiling)))
    return str(path)


def ceilings(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks/ceilings.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_table_of_several_runs_goes_into_a_page(tmp_path: Path) -> None:
    higher = replace(LOW, rate=1100), replace(HIGH, rate=1200)
    files = [
        written(tmp_path, "1", FOUND),
        written(tmp_path, "2", replace(FOUND, found=Found(*higher, True, higher))),
        written(tmp_path, "3", replace(FOUND, options=CeilingOptions(builtin="native"))),
    ]
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n")
    done = ceilings(*files, "--page", str(page))
    assert (done.returncode, done.stderr) == (0, "")
    text = page.read_text()
    assert "| browser | json | 1,000 | 1,000 - 1,050 | 1,002 | 1.5 | client |" in text
    assert "- browser, json: the intervals of 3 runs do not overlap; the ceilings differ by" in text
    assert text.startswith("before\n<!-- figures -->\n| client |")
    assert text.endswith("\n<!-- end of figures -->\nafter\n")
    assert "old" not in text
    page.write_text("no marks")
    assert ceilings(*files, "--page", str(page)).returncode == 1


@pytest.mark.skipif(not HAS_MATPLOTLIB, reason="matplotlib is not installed")
def test_the_chart_of_several_runs_is_drawn(tmp_path: Path) -> None:
    chart, image = tmp_path / "chart.svg", tmp_path / "chart.png"
    file = written(tmp_path, "1", FOUND)
    done = ceilings(file, "--chart", str(chart), "--chart", str(image))
    assert done.returncode == 0, done.stderr
    assert "<svg" in chart.read_text()
    assert image.read_bytes().startswith(b"\x89PNG")


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
