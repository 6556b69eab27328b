"""Autobahn|Testsuite against examples/echo.py: each case's verdict must be the expected one.

The suite runs on CPython 2.7 only; an environment for it is made once, outside of the tree. Leaves
with 0 when every verdict is as expected.json has it, 1 when one differs, and 3 when no Python
2.7 was found.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
EXPECTED = Path(__file__).with_name("expected.json")
SUITE = "autobahntestsuite==0.8.2"
VIRTUALENV = "virtualenv<20.22"  # the last ones that make an environment of 2.7
NO_PYTHON2 = 3
# Groups 12 and 13 take a quarter of an hour, nearly all of it the suite's own.
DEFLATE_SELECTION = [
    *(f"12.{case}" for case in ("1.1", "1.5", "2.9", "3.5", "4.5", "5.5")),
    *(f"13.{case}" for case in ("1.1", "2.5", "3.5", "4.5", "5.5", "6.5", "7.5")),
]
# Cases 9.* send messages of 16 MiB and of 65,536 fragments.
LIMITS = ["--max-message-size", str(64 << 20), "--max-fragments", str(1 << 17)]


def main() -> int:
    options = parse_options()
    python2 = find_python2()
    if python2 is None:
        print("no Python 2.7, on PATH or below ~/.pyenv: Autobahn cannot run", file=sys.stderr)
        return NO_PYTHON2
    wstest = prepare(options.environment, python2)
    cases = ["*"] if options.all else [f"{group}.*" for group in range(1, 11)]
    if not options.all and options.deflate:
        cases += DEFLATE_SELECTION
    command = [*options.server, *LIMITS, *(["--deflate"] if options.deflate else [])]
    if not options.deflate:
        print("without --deflate: groups 12 and 13 are left out")
    with tempfile.TemporaryDirectory(prefix="fastws_autobahn_") as scratch:
        with serving(command, options.port) as port:
            verdicts = run_cases(wstest, Path(scratch), port, cases, options.seconds)
        if options.report:
            shutil.copytree(Path(scratch) / "report", options.report, dirs_exist_ok=True)
    return compare(verdicts, everything=options.all)


def parse_options() -> argparse.Namespace:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="all 517 cases: some 17 minutes")
    parser.add_argument("--deflate", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--port", type=int, default=0, help="of the server; 0 takes a free one")
    parser.add_argument("--seconds", type=float, default=0, help="time limit of the suite")
    parser.add_argument("--report", type=Path, help="keep the suite's HTML report there")
    parser.add_argument(
        "--environment",
        type=Path,
        default=cache / "fastws" / SUITE.replace("==", "-"),
        help="where the suite is installed, or will be",
    )
    parser.add_argument(
        "server",
        nargs="*",
        default=[sys.executable, str(ROOT / "examples/echo.py")],
        help="another echo server's command; it is given the same options",
    )
    options = parser.parse_args()
    options.seconds = options.seconds or (3600 if options.all else 300)
    return options


def find_python2() -> str | None:
    """The first interpreter that says that it is 2.7."""
    candidates = [found for name in ("python2.7", "python2") if (found := shutil.which(name))]
    candidates += sorted(map(str, Path.home().glob(".pyenv/versions/2.7*/bin/python2.7")))
    question = "import sys; sys.exit(sys.version_info[:2] != (2, 7))"
    for candidate in candidates:
        # A shim of pyenv is there even when the version behind it is not chosen.
        if subprocess.run([candidate, "-c", question], capture_output=True).returncode == 0:
            return candidate
    return None


def prepare(environment: Path, python2: str) -> Path:
    """The suite's wstest, installed when it is not there."""
    wstest = environment / "bin/wstest"
    if wstest.exists():
        return wstest
    print(f"installing {SUITE} below {environment}", flush=True)
    environment.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fastws_virtualenv_") as scratch:
        venv.create(scratch, with_pip=True)
        maker = f"{scratch}/bin/python"
        subprocess.run([maker, "-m", "pip", "install", "--quiet", VIRTUALENV], check=True)
        make = [maker, "-m", "virtualenv", "--quiet", "-p", python2, str(environment)]
        subprocess.run(make, check=True)
    pip = [f"{environment}/bin/pip", "install", "--quiet", "--disable-pip-version-check", SUITE]
    subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)  # which says that 2.7 is old
    return wstest


@contextmanager
def serving(command: list[str], port: int) -> Iterator[int]:
    """The echo server in a process of its own, once it accepts; its port."""
    port = port or free_port()
    server = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)])
    try:
        wait_until_it_accepts(server, port)
        yield port
        if server.poll() is not None:
            raise SystemExit(f"the server ended by itself, status {server.returncode}")
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def wait_until_it_accepts(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except ConnectionRefusedError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the echo server did not start") from None
            time.sleep(0.05)


def run_cases(
    wstest: Path, scratch: Path, port: int, cases: list[str], seconds: float
) -> dict[str, str]:
    """Every case's verdict on behaviour and on closing, as "OK/OK"."""
    specification = {
        "outdir": str(scratch / "report"),
        "servers": [{"agent": "fastws", "url": f"ws://127.0.0.1:{port}"}],
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (scratch / "spec.json").write_text(json.dumps(specification))
    command = [str(wstest), "--mode", "fuzzingclient", "--spec", f"{scratch}/spec.json"]
    log = scratch / "wstest.log"
    with log.open("wb") as output:
        done = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, cwd=scratch, timeout=seconds
        )
    index = scratch / "report/index.json"
    if done.returncode or not index.exists():
        raise SystemExit(f"{log.read_text(errors='replace')[-4000:]}\nwstest: {done.returncode}")
    found = json.loads(index.read_text())["fastws"]
    return {case: f"{entry['behavior']}/{entry['behaviorClose']}" for case, entry in found.items()}


def compare(verdicts: dict[str, str], *, everything: bool) -> int:
    """Print counts and each difference; the exit status."""
    expected: dict[str, str] = json.loads(EXPECTED.read_text())
    wrong = {case: seen for case, seen in verdicts.items() if expected.get(case) != seen}
    for case, seen in wrong.items():
        print(f"{case}: {seen}, expected {expected.get(case, 'no such case')}")
    missing = sorted(expected.keys() - verdicts.keys()) if everything else []
    if missing:
        print(f"not run: {' '.join(missing)}")
    counts = Counter(verdicts.values())
    parts = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    print(f"{len(verdicts)} cases (behaviour/closing): {parts}; {len(wrong)} not as expected")
    return 1 if wrong or missing or not verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
