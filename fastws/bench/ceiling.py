"""The ceiling of a client: calibrates the server, searches, confirms, draws the curve.

Layer 6. Knows the order of the phases and their share of the time; trials, search and verdict are
modules of their own.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from fastws.bench.children import Child, ServerChild, builtin, command_of, cores
from fastws.bench.search import Found, Plan, Search, curve
from fastws.bench.trials import NoClient, Trials
from fastws.bench.verdict import Limits, Party, Trial, limited_by
from fastws.errors import ConfigError
from fastws.ticks.config import MAX_RATE, Format

FRAME_BYTES = {"json": 58.0, "binary": 22.0}
CALIBRATION = 0.03  # of the budget, and the shares of the other phases
CONFIRMATION = 0.2
CURVE = 0.25
CURVE_POINTS = 7  # new trials that it is planned with
LONGEST_CALIBRATION, LONGEST_CONFIRMATION = 5.0, 30.0  # seconds
SHORTEST_TRIAL = (1.2, 3.2)  # seconds: at the shortest budget, and with three reports of a client
PANEL_PORT = 8080  # where existing clients look for a server
NATIVE: Literal["native"] = "native"

Builtin = Literal["native", "python"]


@dataclass(frozen=True, slots=True)
class CeilingOptions:
    """What to measure.

    Args:
        client_id: name of the client; None: the one that it reports.
        spawn: command that starts a client, or None.
        builtin: a client of ours, or None. With neither, a client has to connect by itself.
        format: of the ticks.
        clients: connections, 1 to 10,000; `spawn` is started so many times.
        budget: seconds for everything, 20 to 86,400.
        precision: width of the ceiling's interval in percent, 0.5 to 50.
        slo_p99_ms: objective for the client's p99 in milliseconds, above 0, or None.
        port: that the server listens on, 0 to 65,535; None: 8080 where a client has to come by
            itself, else any free one.
        start: rate of the first trial, 1 to 100,000,000; one near the ceiling saves time.

    Raises:
        ConfigError: one is out of range, there is no client, or two of them.
    """

    client_id: str | None = None
    spawn: str | None = None
    builtin: Builtin | None = None
    format: Format = "json"
    clients: int = 1
    budget: float = 180.0
    precision: float = 5.0
    slo_p99_ms: float | None = None
    port: int | None = None
    start: int = 1000

    def __post_init__(self) -> None:
        if self.spawn is not None and self.builtin is not None:
            raise ConfigError("spawn", "cannot be combined with --builtin")
        if not self.comes_from_us and self.client_id is None:
            raise ConfigError("client_id", "is needed without --spawn or --builtin")
        if self.client_id == "":
            raise ConfigError("client_id", "must not be empty")
        if not 1 <= self.clients <= 10_000:
            raise ConfigError("clients", "must be from 1 to 10,000")
        if not 20 <= self.budget <= 86_400:  # a NaN compares false
            raise ConfigError("budget", "must be from 20 to 86,400 seconds")
        if not 0.5 <= self.precision <= 50:
            raise ConfigError("precision", "must be from 0.5 to 50 percent")
        if self.slo_p99_ms is not None and not self.slo_p99_ms > 0:
            raise ConfigError("slo_p99", "must be above 0 ms")
        if self.port is not None and not 0 <= self.port <= 65_535:
            raise ConfigError("port", "must be an integer from 0 to 65,535")
        if not 1 <= self.start <= MAX_RATE:
            raise ConfigError("start", f"must be from 1 to {MAX_RATE:,}")
        if self.spawn is not None:
            try:
                command_of(self.spawn, 1, 1)
            except ValueError as error:
                raise ConfigError("spawn", str(error).lower()) from None

    @property
    def comes_from_us(self) -> bool:
        """Whether the client's processes are started here."""
        return self.spawn is not None or self.builtin is not None


@dataclass(frozen=True, slots=True)
class Step:
    """How far it is: the phase, seconds spent and in all, the last trial."""

    phase: str
    spent: float
    total: float
    trial: Trial | None = None


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What was found.

    Args:
        options: what was asked for.
        at: when it began.
        client_id: the client's name.
        found: the search's result.
        points: the curve, ascending.
        capacity: messages a second of the server to a native sink, or None: not measured.
        capacity_cpu: processor time of the server per second then, or None.
        seconds: that it took.
        interrupted: cut short.
    """

    options: CeilingOptions
    at: datetime
    client_id: str
    found: Found
    points: Sequence[Trial]
    capacity: float | None
    seconds: float
    interrupted: bool
    capacity_cpu: float | None = None

    @property
    def rate(self) -> int:
        """Messages a second over all connections that the client sustained."""
        return self.found.ceiling * self.options.clients

    @property
    def limited_by(self) -> Party | None:
        """Who kept it from more; None: nobody did, up to the highest rate that was tried."""
        clients = self.options.clients
        return limited_by(self.found.high, clients, self.capacity, self.capacity_cpu)

    @property
    def headroom(self) -> float | None:
        """The server's capacity as a multiple of the ceiling; None: not known."""
        return None if self.capacity is None or not self.rate else self.capacity / self.rate


class CeilingRun:
    """One run.

    Args:
        options: what to measure.
        report: called when a phase begins, at each sample and after each trial.
        waiting: called with the URL when a client has to connect by itself.
    """

    def __init__(
        self,
        options: CeilingOptions,
        report: Callable[[Step], None] = lambda _: None,
        waiting: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._options = options
        self._report = report
        self._waiting = waiting
        self._began = time.monotonic()
        self._phase = "starting"
        self._capacity: float | None = None
        self._capacity_cpu: float | None = None
        self._search: Search | None = None
        self._points: list[Trial] = []
        self._trials: Trials | None = None

    def run(self) -> Ceiling:
        """Measure; Ctrl-C gives what is known so far.

        Raises:
            CannotStart: the server or the client is no program that starts.
            NoClient: no client connected, or it went away for good.
        """
        at, interrupted = datetime.now(UTC), False
        try:
            self._calibrate()
            self._measure()
        except KeyboardInterrupt:
            interrupted = True
        except NoClient:
            if self._search is None or not self._search.found.ceiling:
                raise
            interrupted = True  # what is known is worth saying
        return Ceiling(
            options=self._options,
            at=at,
            client_id=self._client_id(),
            found=self._search.found if self._search else Found(None, None, False, ()),
            points=self._points,
            capacity=self._capacity,
            capacity_cpu=self._capacity_cpu,
            seconds=time.monotonic() - self._began,
            interrupted=interrupted,
        )

    def _client_id(self) -> str:
        known = self._trials.client_id if self._trials else None
        return known or self._options.client_id or self._options.builtin or "client"

    def _calibrate(self) -> None:
        """Measure the server with a native sink on the client's cores."""
        self._begin("calibrating the server")
        options = self._options
        server = ServerChild(options.format)
        port, n = server.port, options.clients
        trials = self._on(server, lambda: [builtin(NATIVE, port, n, NATIVE)], NATIVE)
        try:
            seconds = min(LONGEST_CALIBRATION, CALIBRATION * options.budget)
            self._capacity, self._capacity_cpu = trials.capacity(seconds)
        finally:
            trials.close()
            server.end()

    def _measure(self) -> None:
        options = self._options
        port = options.port
        if port is None:
            port = 0 if options.comes_from_us else PANEL_PORT
        server = ServerChild(options.format, port=port)
        start = (lambda: self._start(server.port)) if options.comes_from_us else None
        trials = self._trials = self._on(server, start, options.client_id)
        try:
            self._begin("connecting")
            if start is None:
                self._waiting(f"ws://127.0.0.1:{server.port}")
            trials.connect()
            self._find(trials)
        finally:
            trials.close()
            server.end()

    def _find(self, trials: Trials) -> None:
        """Search, confirm, draw the curve."""
        plan = self._plan()
        self._search = Search(self._noting(trials), plan, self._begin)
        found = self._search.run()
        left = self._options.budget - self._spent()
        if found.ceiling and left > 0:
            self._begin("drawing the curve")
            seconds = max(SHORTEST_TRIAL[0], min(left / CURVE_POINTS - 2, SHORTEST_TRIAL[1]))
            noted = self._noting(trials, self._points)
            self._points = curve(found, noted, seconds, left)

    def _plan(self) -> Plan:
        budget, options = self._options.budget, self._options
        least, usual = SHORTEST_TRIAL
        return Plan(
            precision=options.precision / 100,
            start=options.start,
            seconds=budget * (1 - CURVE) - self._spent(),
            shortest=max(least, min(usual, budget / 50)),
            confirmation=min(LONGEST_CONFIRMATION, CONFIRMATION * budget),
            clients=options.clients,
        )

    def _start(self, port: int) -> list[Child]:
        options = self._options
        if options.builtin is not None:
            name = options.client_id or options.builtin
            return [builtin(options.builtin, port, options.clients, name)]
        assert options.spawn is not None
        seconds = 2 * options.budget  # a client that leaves too early would end the search
        command = command_of(options.spawn, port, seconds)
        return [Child(command, cores()[1]) for _ in range(options.clients)]

    def _on(
        self, server: ServerChild, start: Callable[[], list[Child]] | None, client_id: str | None
    ) -> Trials:
        options = self._options
        limits = Limits(
            clients=options.clients,
            tolerance=max(0.005, options.precision / 400),
            slo_p99_ms=options.slo_p99_ms,
            frame_bytes=FRAME_BYTES[options.format],
        )
        return Trials(
            server,
            limits,
            start,
            client_id,
            counts=options.clients == 1 or client_id == NATIVE or options.builtin is not None,
            wait=15.0 if start is not None else options.budget,
            step=lambda _: self._tell(None),
        )

    def _noting(
        self, trials: Trials, points: list[Trial] | None = None
    ) -> Callable[[int, float], Trial]:
        """Return what tries a rate and reports the trial."""

        def try_rate(rate: int, seconds: float) -> Trial:
            trial = trials(rate, seconds)
            if points is not None and trial.judgement != "invalid":
                points.append(trial)
            self._tell(trial)
            return trial

        return try_rate

    # Progress.

    def _spent(self) -> float:
        return time.monotonic() - self._began

    def _begin(self, phase: str) -> None:
        self._phase = phase
        self._tell(None)

    def _tell(self, trial: Trial | None) -> None:
        self._report(Step(self._phase, self._spent(), self._options.budget, trial))
