"""The processes of a ceiling: a server on one core, the client on the others.

Layer 6. Starts, watches and ends them; only those that it started.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from fastws.errors import FastwsError
from fastws.server.memory import available_memory

STOP_TIMEOUT = 5.0  # seconds
UNLIMITED = ("--max-lag", "0", "--min-rate", "0", "--write-timeout", "0")
MOST_LAG, LEAST_LAG = 1 << 30, 16 << 20  # bytes that a client may be behind
SHARE_OF_MEMORY = 8  # an eighth of it at most; the logs take twice as much
ADDRESS = re.compile(r"ws://[\d.]+:(\d+)")


class CannotStart(FastwsError):
    """A process did not start; `str()` is one line."""


def cores() -> tuple[set[int], set[int]]:
    """Return the server's cores and the client's: one and the rest, the same where there is one."""
    usable = sorted(os.sched_getaffinity(0))
    return ({usable[0]}, set(usable[1:])) if len(usable) > 1 else (set(usable), set(usable))


@contextmanager
def _on(wanted: set[int]) -> Iterator[None]:
    """Run on these cores: a process started meanwhile stays there, with all its threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, wanted)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Child:
    """A process that is ended with this object.

    Args:
        arguments: the command.
        cpus: the cores that it may use.
        output: where its standard output goes, as `subprocess.Popen` takes it.
        environment: its variables; None: ours.

    Raises:
        CannotStart: there is no such program.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        cpus: set[int],
        output: int = subprocess.DEVNULL,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        try:
            with _on(cpus):
                self.process = subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    env=environment,
                    start_new_session=True,  # Ctrl-C is for us, who then end it
                )
        except OSError as error:
            raise CannotStart(f"cannot start {arguments[0]!r}: {error.strerror}") from None

    @property
    def status(self) -> int | None:
        """Exit status, None while it runs."""
        return self.process.poll()

    def processor_time(self) -> float:
        """Return the seconds of processor time that it has used so far."""
        try:
            stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        except OSError:
            return 0.0
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """End it and what it started: by SIGTERM, after 5 s by SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.status is not None:
                break
            os.killpg(self.process.pid, number)
            try:
                self.process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                continue
        if self.process.stdout is not None:
            self.process.stdout.close()


class ServerChild(Child):
    """`fastws serve`; `port` is where it listens.

    Args:
        format: of the ticks.
        options: further ones of the command; without any, ticks may grow old and clients be slow
            and far behind, for a backlog that is cut off would look flat.
        port: to listen on, 0: any free one.
        rate: ticks a second.

    Raises:
        CannotStart: it ended instead of listening.
    """

    def __init__(self, format: str, *options: str, port: int = 0, rate: int = 0) -> None:
        listen = ("--host", "127.0.0.1", "--port", str(port))
        ticks = ("--rate", str(rate), "--format", format, "--log-level", "warning")
        command = [sys.executable, "-m", "fastws", "serve", *listen, *ticks]
        command += options or unlimited()
        super().__init__(command, cores()[0], subprocess.PIPE, own_environment())
        assert self.process.stdout is not None
        found = ADDRESS.search(self.process.stdout.readline().decode())
        self.process.stdout.close()  # its console rows are for nobody
        if found is None:
            self.end()
            raise CannotStart(f"the server did not start on port {port}")
        self.port = int(found[1])


def unlimited() -> tuple[str, ...]:
    """Return the options with which the server drops nothing as long as memory lasts."""
    lag = max(LEAST_LAG, min(MOST_LAG, available_memory() // SHARE_OF_MEMORY))
    logs = str(2 * lag)  # what is retained, with its indexes
    return (*UNLIMITED, "--max-lag-bytes", str(lag), "--max-log-bytes", logs)


def own_environment() -> dict[str, str]:
    """Return the variables of a child that runs this package: none that sets its options."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FASTWS_")}
    kept.pop("SERVER_MODE", None)
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def command_of(text: str, port: int, seconds: float) -> list[str]:
    """Return the command of `--spawn`, with {url}, {port} and {seconds} replaced.

    Where none of {url} and {port} stands in it, `--url URL` is put behind it, which the clients
    in benchmarks/clients take.

    Raises:
        ValueError: a quotation does not end, or nothing is there.
    """
    url = f"ws://127.0.0.1:{port}"
    parts = shlex.split(text)
    if not parts:
        raise ValueError("the command is empty")
    if "{url}" not in text and "{port}" not in text:
        parts += ["--url", url]
    values = {"{url}": url, "{port}": str(port), "{seconds}": str(round(seconds))}
    for name, value in values.items():
        parts = [part.replace(name, value) for part in parts]
    return parts


def builtin(kind: str, port: int, clients: int, client_id: str) -> Child:
    """Start a built-in client, native or python."""
    url = f"ws://127.0.0.1:{port}"
    command = [sys.executable, "-m", "fastws.bench.sink", kind, url, str(clients), client_id]
    return Child(command, cores()[1], environment=own_environment())
