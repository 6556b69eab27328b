"""Sections `users`, `stats` and `pace` of `topics.py`."""

import http.client
import statistics
import time
from typing import Any

from topics_client import Crowd
from topics_pace import quantiles
from topics_running import Contender, Figures, Options, in_turns, running, summary
from topics_wire import FRAME_SIZE


def users(options: Options) -> list[dict[str, Any]]:
    """Measure; the rows of the report."""
    clients = 50 if options.quick else options.users
    topics = clients * (10 if options.quick else options.topics_per_user)
    cases = {
        f"{topics} topics of one subscriber": ("topics", topics, topics),
        f"{clients} topics of one subscriber": ("topics", clients, topics),
        f"one topic of {clients} subscribers": ("one topic", 1, topics // clients),
        "connection.send_nowait": ("send", 0, topics),
    }
    bursts = 2 if options.quick else options.bursts
    loop = ("--loop", options.loop) if options.loop else ()

    def measure(contender: Contender, case: str) -> Figures:
        """Publish in bursts; what counts is the median of them."""
        kind, named, count = cases[case]
        with running(contender, options.server_core, *loop) as server:
            crowd = Crowd(server.port)
            crowd.connect(clients)
            crowd.ask("populate", kind=kind, topics=named)
            crowd.ask("prepare", count=count)
            frames = count * (clients if kind == "one topic" else 1)
            calls, rates, cpu = [], [], []
            for _ in range(bursts + 1):  # the first one warms up
                before = server.cpu_ns()
                done = crowd.ask("burst", kind=kind)
                crowd.take(frames * FRAME_SIZE)
                calls.append(done["cpu_ns"] / count)
                rates.append(frames / (time.monotonic_ns() - done["began_at"]) * 1e9)
                time.sleep(0.01)  # seconds: the account of a thread is up to date when it sleeps
                cpu.append((server.cpu_ns() - before) / frames)
            assert crowd.closed == 0, f"{contender.name} ended {crowd.closed} connections"
            crowd.close()
        return {
            "ns a publish() or send()": statistics.median(calls[1:]),
            "deliveries/s": statistics.median(rates[1:]),
            "processor time, ns a delivery": statistics.median(cpu[1:]),
        }

    rounds = 1 if options.quick else options.rounds
    samples = in_turns("users", rounds, list(cases), options.python, measure)
    return summary("users", samples, options.python[0].name)


def stats(options: Options) -> list[dict[str, Any]]:
    """Measure; the rows of the report."""
    most, many = (200, 1000) if options.quick else (options.idle, options.named)
    asked = 20 if options.quick else options.asked
    cases = {
        f"{connections} connections, {topics} topics": (connections, topics)
        for topics in (1, many)
        for connections in (10, most)
    }

    def measure(contender: Contender, case: str) -> Figures:
        """Ask the tick feed at rate 0 for its statistics, on one HTTP connection."""
        connections, topics = cases[case]
        with running(
            Contender(contender.name, contender.python, "feed"),
            options.server_core,
            "--topics",
            str(topics - 1),  # the feed has one
        ) as server:
            crowd = Crowd(server.port)
            crowd.connect(connections - 1)  # the control connection is one
            client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            took: list[int] = []
            ask_stats(client)
            before = server.cpu_ns()
            for _ in range(asked):
                began = time.perf_counter_ns()
                ask_stats(client)
                took.append(time.perf_counter_ns() - began)
            time.sleep(0.01)
            cpu = (server.cpu_ns() - before) / asked
            client.close()
            crowd.close()
        return {
            "GET /stats, ms": statistics.median(took) / 1e6,
            "GET /stats, ms, slowest": max(took) / 1e6,
            "processor time, ms a request": cpu / 1e6,
        }

    rounds = 1 if options.quick else options.rounds
    samples = in_turns("stats", rounds, list(cases), options.python, measure)
    return summary("stats", samples, options.python[0].name)


def ask_stats(client: http.client.HTTPConnection) -> None:
    """Send one request and read its answer."""
    client.request("GET", "/stats")
    response = client.getresponse()
    body = response.read()
    assert response.status == 200, body


def pace(options: Options) -> list[dict[str, Any]]:
    """Measure; the rows of the report."""
    seconds = 1.0 if options.quick else options.pace_seconds
    counts = [20, 50] if options.quick else options.pace_clients
    loop = options.loop or "asyncio"
    cases: dict[str, tuple[int, bool, int, int]] = {}
    most, at = options.outside, options.outside_rate
    for clients in counts:
        cases[f"{clients} clients"] = (clients, False, 0, 0)
        cases[f"{clients} clients, beside a busy thread"] = (clients, True, 0, 0)
        cases[f"{clients} clients, a thread publishes {at}/s"] = (
            clients,
            False,
            most,
            at,
        )
        cases[f"{clients} clients, a thread publishes all it can"] = (clients, False, most, 0)

    def measure(contender: Contender, case: str) -> Figures:
        """Let a coroutine publish."""
        clients, busy, outside, outside_rate = cases[case]
        with running(contender, options.server_core, "--loop", loop) as server:
            crowd = Crowd(server.port, stamp=round(seconds * options.pace_rate) + 1)
            crowd.connect(clients)
            crowd.connect(1, "/outside")
            told = crowd.ask(
                "pace",
                seconds=seconds,
                rate=options.pace_rate,
                busy=busy,
                outside=outside,
                outside_rate=outside_rate,
            )
            crowd.settle()
            published, arrived = told["published"], crowd.arrived
            latencies = [b - a for a, b in zip(published, arrived, strict=False) if b]
            found: Figures = {
                "steps/s": told["steps_per_s"],
                "frames/s": crowd.stamped / FRAME_SIZE / (max(arrived) - published[0]) * 1e9,
                "processor time, share of a core": told["cpu"],
                "connections ended": crowd.closed,
            }
            if outside:
                found["published by the thread/s"] = told["outside_per_s"]
            crowd.close()
        for name, values in (
            ("loop late", told["late_ms"]),
            ("thread runs between two waits", told["round_ms"]),
            ("publish to last client", quantiles(latencies)),
        ):
            found |= {f"{name}, ms, {part}": value for part, value in (values or {}).items()}
        return found

    rounds = 1 if options.quick else options.rounds
    samples = in_turns("pace", rounds, list(cases), options.python, measure)
    return summary("pace", samples, options.python[0].name)
