"""The README's example is run as it stands there, and a client that is not ours reads from it."""

import asyncio
import re
import signal
import subprocess
import sys
from pathlib import Path

import websockets
from surroundings import UNDER

README = Path(__file__).resolve().parent.parent / "README.md"


def example() -> str:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1, "the README has one Python example"
    return str(blocks[0])


async def first_message(url: str) -> str | bytes:
    async with websockets.connect(url) as client:
        return await client.recv()


def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    program = tmp_path / "clock.py"
    program.write_text(example())
    process = subprocess.Popen(
        [*UNDER, sys.executable, "-u", str(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().split()[-1]
        assert re.fullmatch(r"\d\d:\d\d:\d\d", str(asyncio.run(first_message(url))))
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert "Traceback" not in errors or "KeyboardInterrupt" in errors
