"""Tries a rate on a running server and client: drains, sets the rate, samples, judges.

Layer 6. Speaks HTTP to the server (docs/protocol.md 2) and asks the kernel for the sockets.
"""

import http.client
import time
from collections.abc import Callable
from typing import Any

import orjson

from fastws.bench.children import Child, ServerChild
from fastws.bench.sockets import queues
from fastws.bench.verdict import (
    ENOUGH_REPORTS,
    Limits,
    Report,
    Sample,
    Trial,
    judge,
    reports_of,
)
from fastws.ticks.config import Rate

SAMPLE_EVERY = 0.1  # seconds
SETTLE = 1.0  # seconds from a new rate to the first sample that counts
DRAIN_TIMEOUT = 10.0  # seconds; a client of ours is started again then
SHORT_DRAIN = 5.0  # seconds; a backlog that will take longer is not waited for either
WAIT_FOR_CLIENT = 15.0  # seconds
# Seconds after which a trial is plainly bad that takes less than that share of the rate: it ends.
PLAINLY = ((2.5, 0.75), (10.0, 0.95))
HTTP_TIMEOUT = 10.0  # seconds
MORE_FOR_REPORTS = 4.0  # seconds that a trial is longer, at most, until a busy client has reported
MANY = 2000  # connections; beyond it listing their sockets ten times a second would be a load

StartClient = Callable[[], list[Child]]


class NoClient(Exception):
    """No client connected, or the one that did has gone for good; `str()` is one line."""


class Trials:
    """One server and its client, on which rates are tried.

    Args:
        server: which runs already, at rate 0.
        limits: what a good trial keeps; its frame size is measured here.
        start_client: starts the client's processes, or None: the client comes by itself.
        client_id: the client's name in its reports; None: the one that is reported.
        counts: whether its reports count all its messages; not when several processes share a name.
        wait: seconds to wait for the client.
        step: called at each sample, with the seconds of it.
    """

    def __init__(
        self,
        server: ServerChild,
        limits: Limits,
        start_client: StartClient | None,
        client_id: str | None,
        *,
        counts: bool = True,
        wait: float = WAIT_FOR_CLIENT,
        step: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.client_id = client_id
        self.children: list[Child] = []
        self._server = server
        self._limits = limits
        self._start_client = start_client
        self._wait = wait
        self._step = step
        self._http = http.client.HTTPConnection("127.0.0.1", server.port, timeout=HTTP_TIMEOUT)
        self._counts = counts
        self._report: Report | None = None
        self._behind = False  # the last trial left a backlog, which takes about so long
        self._backlog_seconds = 0.0

    def __call__(self, rate: int, seconds: float) -> Trial:
        """Try a rate.

        Args:
            rate: ticks a second to each client.
            seconds: to judge, after draining and settling.

        Raises:
            NoClient: the client has gone and cannot be started again.
        """
        began = time.monotonic()
        self._ready()
        self.set_rate(rate)
        self._pause(SETTLE)
        samples = self._samples(rate, seconds)
        trial = judge(rate, samples, self._limits, time.monotonic() - began)
        self._behind = trial.judgement != "good"
        self._backlog_seconds = _seconds_to_drain(samples[-1], trial)
        return trial

    # The client.

    def connect(self) -> None:
        """Start the client, if it is ours, and wait for its connections.

        Raises:
            NoClient: they are not there in time, or too many.
        """
        self.set_rate(0)
        if self._start_client is not None:
            self.disconnect()
            self.ask("DELETE", "/stats")
            self._report, self._behind = None, False
            self.children = self._start_client()
        until = time.monotonic() + self._wait
        while (found := self.sample().connections) != self._limits.clients:
            ended = [child.status for child in self.children if child.status is not None]
            if ended:
                raise NoClient(f"the client ended with status {ended[0]} before it connected")
            if time.monotonic() > until:
                raise NoClient(
                    f"{found:,} connections of {self._limits.clients:,} after {self._wait:.0f} s"
                )
            self._pause(SAMPLE_EVERY)

    def disconnect(self) -> None:
        """End the client, if it is ours."""
        for child in self.children:
            child.end()
        self.children = []

    def close(self) -> None:
        """End the client, if it is ours, and the connection to the server's HTTP API."""
        self.disconnect()
        self._http.close()

    def _ready(self) -> None:
        """Have the client connected, and without a backlog of the last trial."""
        if self.sample().connections != self._limits.clients:
            self.connect()
        if not self._behind:
            return
        self.set_rate(0)
        if self._start_client is not None and self._backlog_seconds > SHORT_DRAIN:
            self.connect()
            return
        until = time.monotonic() + DRAIN_TIMEOUT
        while not self._is_drained():
            if time.monotonic() > until and self._start_client is not None:
                self.connect()
                break
        self._behind = False

    def _is_drained(self) -> bool:
        """Look at the rate 0: nothing waits in the server or the sockets, and no count moves."""
        before = self._report
        self._pause(SAMPLE_EVERY)
        sample = self.sample()
        waiting = sample.published - sample.delivered - sample.dropped
        waiting += (sample.unacknowledged or 0) + (sample.unread or 0)
        if waiting or self._report is None:
            return not waiting
        if before is None or self._report.at == before.at:
            return False  # the next report tells, within a second
        return self._report.total == before.total

    # The server.

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return the answer of the HTTP API; a connection that has ended is opened again."""
        content = None if body is None else orjson.dumps(body)
        for attempt in (1, 2):
            try:
                self._http.request(method, path, content)
                return orjson.loads(self._http.getresponse().read())
            except (http.client.HTTPException, OSError) as error:
                self._http.close()
                if attempt == 2:
                    raise NoClient(f"the server does not answer: {error}") from None
        return None

    def set_rate(self, rate: Rate) -> None:
        """Tell the server the ticks a second, to each client."""
        self.ask("POST", "/config", {"rate": rate})

    def sample(self) -> Sample:
        """Return the counters, the sockets and the newest report."""
        stats = self.ask("GET", "/stats")
        own = self._http.sock.getsockname()[1] if self._http.sock else 0
        few = self._limits.clients <= MANY
        sockets = queues(self._server.port, without=own) if few else None
        account = stats["server"]
        self._report = self._newest(stats["clients"]) or self._report
        return Sample(
            at=time.time(),
            published=account["published"],
            delivered=account["delivered"],
            acknowledged=account["acknowledged"],
            dropped=account["dropped"],
            missed=account["pacing"]["missed"],
            connections=account["connections"],
            unacknowledged=None if sockets is None else sockets.unacknowledged,
            unread=None if sockets is None else sockets.unread,
            window_limited=None if sockets is None else sockets.window_limited,
            server_cpu=self._server.processor_time(),
            report=self._report if self._counts else None,
        )

    def _newest(self, rows: dict[str, dict[str, Any]]) -> Report | None:
        """Return the newest report of the client; its name is taken from it, if none is known."""
        if self.client_id is None and rows:
            self.client_id = max(rows, key=lambda name: rows[name]["lastUpdate"])
        row = rows.get(self.client_id or "")
        if row is None or row["totalMessages"] is None:
            return None
        return Report(row["lastUpdate"] / 1000, row["totalMessages"], row["p99LatencyMs"])

    def capacity(self, seconds: float) -> tuple[float, float]:
        """Let the server send at rate "max" to this client.

        Returns:
            The messages a second that it delivers, and its processor time per second.
        """
        self.connect()
        self.set_rate("max")
        self._pause(SETTLE)
        first = self.sample()
        self._pause(seconds)
        last = self.sample()
        self.set_rate(0)
        passed = last.at - first.at
        delivered, busy = last.delivered - first.delivered, last.server_cpu - first.server_cpu
        return delivered / passed, busy / passed

    # A trial.

    def _samples(self, rate: int, seconds: float) -> list[Sample]:
        """Return ten samples a second; fewer when it is plain that the rate is too high."""
        samples = [self.sample()]
        begun = time.monotonic()
        longest = seconds + (MORE_FOR_REPORTS if self._report and self._counts else 0.0)
        while (elapsed := time.monotonic() - begun) < longest:
            if elapsed >= seconds and self._has_reports(samples):
                break
            self._pause(SAMPLE_EVERY)
            samples.append(self.sample())
            share = max((part for after, part in PLAINLY if elapsed > after), default=0.0)
            if share and self._is_plainly_bad(rate, share, samples):
                break
        return samples

    def _has_reports(self, samples: list[Sample]) -> bool:
        return len(reports_of(samples)) >= ENOUGH_REPORTS

    def _is_plainly_bad(self, rate: int, share: float, samples: list[Sample]) -> bool:
        if not self._has_reports(samples) and self._report and self._counts:
            return False
        trial = judge(rate, samples, self._limits)
        target = share * rate * self._limits.clients
        return trial.judgement != "good" and min(trial.client_rate, trial.published_rate) < target

    def _pause(self, seconds: float) -> None:
        """Let time pass in steps, and say so."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(SAMPLE_EVERY, left))
            self._step(min(SAMPLE_EVERY, left))


def _seconds_to_drain(last: Sample, trial: Trial) -> float:
    """Return how long the client takes for what waits in the server, at its rate in the trial."""
    pending = max(0, last.published - last.delivered - last.dropped)
    return pending / trial.client_rate if trial.client_rate > 0 else float(bool(pending)) * 1e9
