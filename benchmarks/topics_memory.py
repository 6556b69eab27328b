"""Sections `memory` and `retained` of `topics.py`: what topics hold, and let go of."""

import time
from typing import Any

from topics_client import Crowd
from topics_running import MIB, Contender, Figures, Options, Running, in_turns, running, summary
from topics_wire import FRAME_SIZE

CONNECTIONS = 100
STEP = 1000  # topics that are published to at a time
MESSAGE = 16 * 1024  # bytes, of the section `retained`
MESSAGE_FRAME = MESSAGE + 4  # RFC 6455 5.2: from 126 bytes on the header has four
SMALL_BUFFER = 4096  # SO_RCVBUF of a stalled client, bytes
POLICIES = ["latest", "close", "lossless"]


def memory(options: Options) -> list[dict[str, Any]]:
    """Measure; the rows of the report."""
    measuring = Memory(options)
    rounds = 1 if options.quick else options.memory_rounds
    samples = in_turns("memory", rounds, list(measuring.cases), options.python, measuring.measure)
    return summary("memory", samples, options.python[0].name)


class Memory:
    """The measurement of the section `memory`."""

    def __init__(self, options: Options) -> None:
        self._core = options.server_core
        self._topics = 5000 if options.quick else options.named
        self._cycles = 10_000 if options.quick else options.cycles
        self._settle = 1.0 if options.quick else options.settle
        self._limit = options.max_growth * MIB
        self.cases = {
            f"{self._topics} topics": self._named,
            f"{CONNECTIONS} connections with {self._topics // 10} subscriptions": self._subscribed,
            f"{self._cycles} cycles": self._cycled,
        }

    def measure(self, contender: Contender, case: str) -> Figures:
        """Measure one contender in one case, with a server of its own."""
        with running(contender, self._core) as server:
            crowd = Crowd(server.port)
            crowd.connect(CONNECTIONS)
            crowd.ask("resident")
            found = self.cases[case](crowd)
            assert crowd.closed == 0, f"{contender.name} ended {crowd.closed} connections"
            crowd.close()
        return found

    def _named(self, crowd: Crowd) -> Figures:
        """Topics with one subscription each: quiet, used, quiet again, gone."""
        n = self._topics
        start = crowd.ask("resident")["bytes"]

        def each() -> float:
            return float(crowd.ask("resident")["bytes"] - start) / n

        found: Figures = {}
        crowd.ask("name_topics", topics=n)
        found["quiet and referenced, bytes each"] = each()
        crowd.ask("forget")
        found["quiet, bytes each"] = each()
        crowd.ask("recall", topics=n)
        for first in range(0, n, STEP):
            count = min(STEP, n - first)
            crowd.tell("publish_some", first=first, count=count)
            crowd.take(count * FRAME_SIZE)
        crowd.ask("forget")
        found["after one message, bytes each"] = each()
        time.sleep(self._settle)
        found[f"{self._settle:.0f} s later, bytes each"] = each()
        crowd.ask("recall", topics=n)
        crowd.ask("unsubscribe")
        found["unsubscribed and dropped, bytes each"] = each()
        time.sleep(self._settle)
        end = crowd.ask("resident")["bytes"]
        found["start, MiB"], found["end, MiB"] = start / MIB, end / MIB
        return found

    def _subscribed(self, crowd: Crowd) -> Figures:
        """Many subscriptions to a tenth as many topics for each connection."""
        topics = self._topics // 10
        crowd.ask("retain", topics=topics, policies=["close"], subscribed=False)
        before, began = crowd.ask("resident")["bytes"], time.perf_counter_ns()
        crowd.ask("subscribe_all")
        took = time.perf_counter_ns() - began
        grown = crowd.ask("resident")["bytes"] - before
        return {
            "bytes a subscription": grown / (topics * CONNECTIONS),
            "ns a subscribe()": took / (topics * CONNECTIONS),
        }

    def _cycled(self, crowd: Crowd) -> Figures:
        """Topics that come and go."""
        tenth = max(1, self._cycles // 10)
        limit = crowd.ask("resident")["bytes"] + self._limit
        crowd.ask("cycles", first=0, count=tenth // 10, limit=limit)
        start = crowd.ask("resident")["bytes"]
        found: Figures = {}
        cpu = done = 0
        for part in range(1, 11):
            told = crowd.ask("cycles", first=part * tenth, count=tenth, limit=limit)
            cpu += told["cpu_ns"]
            done += told["done"]
            grown = crowd.ask("resident")["bytes"] - start
            if told["done"] < tenth:
                break
            found[f"grown after {part * 10} %, MiB"] = grown / MIB
        crowd.settle()
        found["cycles done"] = done
        found["grown at the end, MiB"] = grown / MIB
        found["grown, bytes a cycle"] = grown / max(done, 1)
        found["processor time, ns a cycle"] = cpu / max(done, 1)
        return found


def retained(options: Options) -> list[dict[str, Any]]:
    """Measure; the rows of the report."""
    measuring = Retained(options)
    rounds = 1 if options.quick else options.memory_rounds
    samples = in_turns("retained", rounds, Retained.CASES, options.python, measuring.measure)
    return summary("retained", samples, options.python[0].name)


class Retained:
    """The measurement of the section `retained`."""

    CASES = ("no subscriber", "one that keeps up", "one that is stalled")

    def __init__(self, options: Options) -> None:
        self._core = options.server_core
        self._topics = 50 if options.quick else options.busy
        self._sweeps = max(1, (2 if options.quick else options.published) * MIB // MESSAGE)
        self._limit = options.max_growth * MIB

    def measure(self, contender: Contender, case: str) -> Figures:
        """Publish to every topic, message by message, until all is out or memory has grown."""
        stalled, subscribed = case == self.CASES[2], case != self.CASES[0]
        with running(contender, self._core) as server:
            crowd = Crowd(server.port)
            if stalled:
                crowd.connect(self._topics, receive_buffer=SMALL_BUFFER, reads=False)
            else:
                crowd.connect(CONNECTIONS)
            policies = POLICIES if stalled else ["close"]
            crowd.ask("retain", topics=self._topics, policies=policies, subscribed=subscribed)
            found = self._publish(crowd, server, subscribed and not stalled)
            assert crowd.closed == 0, f"{contender.name} ended {crowd.closed} connections"
            crowd.close()
        return found

    def _publish(self, crowd: Crowd, server: Running, keeping_up: bool) -> Figures:
        start = peak = crowd.ask("resident")["bytes"]
        began, cpu = time.perf_counter(), server.cpu_ns()
        refused = sweeps = 0
        while sweeps < self._sweeps and peak - start < self._limit:
            swept = crowd.ask("sweep", size=MESSAGE)
            sweeps += 1
            refused += swept["refused"]
            peak = max(peak, swept["bytes"])
            if keeping_up:
                crowd.take(self._topics * MESSAGE_FRAME)
        messages = sweeps * self._topics
        found: Figures = {
            "published to each topic, MiB": sweeps * MESSAGE / MIB,
            "seconds": time.perf_counter() - began,
            "processor time, ns a message": (server.cpu_ns() - cpu) / messages,
            "grown at most, MiB": (peak - start) / MIB,
            "grown at the end, MiB": (crowd.ask("resident")["bytes"] - start) / MIB,
            "refused (LogFull)": refused,
        }
        for policy, sums in crowd.ask("accounts").items():
            assert sums["unbalanced"] == 0, f"accounts of {policy} that do not balance: {sums}"
            assert policy != "lossless" or sums["lapped"] == 0, f"a lossless one was lapped: {sums}"
            found |= {f"{policy}: {name}": value for name, value in sums.items()}
        return found
