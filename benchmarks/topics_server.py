"""The server that `topics.py` measures: fastws, told what to do by the control connection.

    PYTHON benchmarks/topics_server.py fastws|feed|socketify|picows|bare [--loop asyncio|uvloop]
        [--topics N]

Prints its port, then serves until it is interrupted. Runs under the interpreter that is measured,
with the fastws installed there.
"""

import argparse
import asyncio
import inspect
import json
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from topics_loads import LOADS
from topics_pace import PACE, watched_loop
from topics_wire import (
    Json,
    Messages,
    all_pairs,
    parse_command,
    raise_file_limit,
    sender,
    thread_ns,
)

KINDS = ("fastws", "feed", "socketify", "picows", "bare")


def main() -> None:
    """Serve one kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="uvloop")
    parser.add_argument("--topics", type=int, default=0, help="feed: further ones, quiet")
    options = parser.parse_args()
    if options.kind in ("socketify", "bare"):
        import topics_peers

        {"socketify": topics_peers.serve_socketify, "bare": topics_peers.serve_bare}[options.kind]()
        return
    with asyncio.Runner(loop_factory=loop_factory(options.loop)) as runner:
        if options.kind == "picows":
            from topics_peers import serve_picows

            runner.run(serve_picows())
        elif options.kind == "feed":
            runner.run(serve_feed(options.topics))
        else:
            runner.run(serve())


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the loop; that of asyncio notes how long each of its rounds runs."""
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return watched_loop


async def serve() -> None:
    """Serve fastws until SIGINT."""
    from fastws import App, Connection, Request, Server
    from fastws._frame import Engine, Topic

    class Bench(App):
        """Knows the clients by the path that they asked for, and does what it is told."""

        def __init__(self) -> None:
            self.server: Server
            self.clients: list[Connection] = []
            self.outside: list[Connection] = []
            self.topics: list[Topic] = []
            self.messages = Messages()
            self.turn = 0
            self._tasks: set[asyncio.Task[None]] = set()

        @property
        def engine(self) -> Engine:
            """The server's."""
            return self.server.engine

        def opened(self, connection: Connection, request: Request) -> None:
            """Remember a client."""
            if request.path == "/":
                self.clients.append(connection)
            elif request.path == "/outside":
                self.outside.append(connection)

        def message(self, connection: Connection, message: str | bytes) -> None:
            """Do what the control connection says."""
            name, arguments = parse_command(message)
            done = COMMANDS[name](self, **arguments)
            if inspect.iscoroutine(done):
                task = asyncio.ensure_future(self._answer(connection, done))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            elif done is not None:
                sender(connection)(json.dumps(done))

        async def _answer(self, connection: Connection, doing: Coroutine[Any, Any, Json]) -> None:
            sender(connection)(json.dumps(await doing))

    raise_file_limit()
    send_no_pings()
    app = Bench()
    app.server = Server(app)
    ((_, port),) = app.server.listen("127.0.0.1", 0)
    app.server.start()
    print(port, flush=True)
    await interrupted()
    app.server.close()


async def serve_feed(topics: int) -> None:
    """Serve the tick feed at rate 0, with further topics, until SIGINT."""
    from fastws.ticks.config import ServeOptions
    from fastws.ticks.feed import TickFeed

    send_no_pings()
    feed = TickFeed(ServeOptions(host="127.0.0.1", port=0, rate=0, quiet=True))
    held = [feed.server.engine.topic(f"room/{i:06d}") for i in range(topics)]
    ((_, port),) = feed.listen()
    feed.start()
    print(port, flush=True)
    await interrupted()
    feed.close()
    held.clear()


def send_no_pings() -> None:
    """Let servers send no pings, which the load client would count as bytes of messages."""
    from fastws import Server
    from fastws._frame import Engine

    vars(sys.modules[Server.__module__])["Engine"] = partial(Engine, ping_interval=0)


async def interrupted() -> None:
    """Wait for SIGINT."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stopped.set)
    await stopped.wait()


# The commands of the fan-out; `app` is a Bench.


def subscribe(app: Any, topics: int, **_: object) -> Json:
    """Subscribe every client to the same topics."""
    app.topics = [app.engine.topic(f"topic/{i:06d}") for i in range(topics)]
    for client, topic in all_pairs(len(app.clients), topics):
        app.clients[client].subscribe(app.topics[topic])
    return {"clients": len(app.clients)}


def each(app: Any) -> None:
    """Publish to every topic once."""
    following = app.messages.next
    for topic in app.topics:
        topic.publish(following())


def called(app: Any) -> None:
    """Do the same in a callback of the loop, outside the engine's turn, as a coroutine would."""
    asyncio.get_running_loop().call_soon(each, app)


def same(app: Any) -> None:
    """Publish as many to one topic."""
    publish, following = app.topics[0].publish, app.messages.next
    for _ in app.topics:
        publish(following())


def one(app: Any) -> None:
    """Publish one message to one topic, another one each time."""
    app.turn = (app.turn + 1) % len(app.topics)
    app.topics[app.turn].publish(app.messages.next())


def usage(app: Any) -> Json:
    """Return the processor time of the loop's thread and the calls of send until now."""
    return {"cpu_ns": thread_ns(), "sends": app.engine.counters()["sends"]}


COMMANDS: dict[str, Callable[..., Any]] = {
    "subscribe": subscribe,
    "each": each,
    "called": called,
    "same": same,
    "one": one,
    "usage": usage,
    **LOADS,
    **PACE,
}
if __name__ == "__main__":
    main()
