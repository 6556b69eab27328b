"""Section `fanout` of `topics.py`: every topic published to once, and one of many."""

import sys
import time
from typing import Any

from topics_client import Crowd
from topics_running import (
    Contender,
    Figures,
    Options,
    has_module,
    in_turns,
    running,
    summary,
)
from topics_wire import FRAME_SIZE

MODES = {
    "fastws": ("each", "called", "same", "one"),
    "socketify": ("each", "same", "one"),
    "picows": ("each", "joined"),
}


def peers_of(python: str) -> list[Contender]:
    """Return the peers that an interpreter has."""
    return [
        Contender(name, python, name)
        for name in ("socketify", "picows")
        if has_module(python, name)
    ]


def fanout(options: Options) -> list[dict[str, Any]]:
    """Measure; the rows of the report."""
    topics = [1, 10, 100] if options.quick else options.topics
    contenders = [*options.python, *peers_of(options.peers)]
    measuring = Fanout(options)
    samples = in_turns(
        "fanout",
        1 if options.quick else options.rounds,
        [f"{each} topics" for each in topics],
        contenders,
        measuring.measure,
    )
    return summary("fanout", samples, contenders[0].name)


class Fanout:
    """The measurement."""

    def __init__(self, options: Options) -> None:
        self._clients = options.clients
        self._seconds = 0.2 if options.quick else options.seconds
        self._core = options.server_core
        self._loop = ("--loop", options.loop) if options.loop else ()
        self._bare = Contender("bare", sys.executable, "bare")
        self._check = options.check

    def measure(self, contender: Contender, case: str) -> Figures:
        """Measure one contender with K topics; `case` is "K topics"."""
        topics = int(case.split()[0])
        found: Figures = {}
        with running(contender, self._core, *self._loop) as server:
            crowd = Crowd(server.port, check=self._check)
            crowd.connect(self._clients)
            assert crowd.ask("subscribe", topics=topics)["clients"] == self._clients
            for mode in MODES[contender.kind]:
                frames = 1 if mode == "one" else topics
                cpu, wall, sends = self._repeat(crowd, mode, frames)
                found[f"{mode}: ns a frame"] = cpu
                found[f"{mode}: wall ns a frame"] = wall
                if mode == "each":
                    found["each: frames a send"] = 1 / sends if sends else None
            if self._check:
                found["frames out of order"] = crowd.misplaced
            assert crowd.closed == 0, f"{contender.name} ended {crowd.closed} connections"
            crowd.close()
        per_send = found.get("each: frames a send")
        if per_send:
            found["each: sends alone, ns a frame"] = sends_cost = self._sends(topics, per_send)
            found["each: above its sends, ns a frame"] = (
                found["each: ns a frame"] or 0
            ) - sends_cost
        return found

    def _repeat(self, crowd: Crowd, mode: str, frames: int) -> tuple[float, float, float | None]:
        """Publish and drain for the time of a measurement.

        Returns:
            Nanoseconds a delivered frame, of processor and of wall time; sends a frame.
        """
        size = frames * self._clients * FRAME_SIZE
        crowd.tell(mode)
        crowd.take(size)
        before, began, rounds = crowd.ask("usage"), time.perf_counter_ns(), 0
        while rounds == 0 or time.perf_counter_ns() < began + self._seconds * 1e9:
            crowd.tell(mode)
            crowd.take(size)
            rounds += 1
        wall, after = time.perf_counter_ns() - began, crowd.ask("usage")
        total = rounds * frames * self._clients
        sends = None if after["sends"] is None else (after["sends"] - before["sends"]) / total
        return (after["cpu_ns"] - before["cpu_ns"]) / total, wall / total, sends

    def _sends(self, topics: int, per_send: float) -> float:
        """Return what the same sends cost in a bare loop, in nanoseconds a frame."""
        with running(self._bare, self._core) as server:
            crowd = Crowd(server.port)
            crowd.connect(self._clients)
            crowd.ask("subscribe", topics=topics, per_call=max(1, round(per_send * FRAME_SIZE)))
            cpu, _, _ = self._repeat(crowd, "each", topics)
            crowd.close()
        return cpu
