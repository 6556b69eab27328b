"""Sends every message back to its sender.

A client that does not read its answers is not read from either, so that it holds itself up and
nobody else: the engine sees to that.
"""

import argparse
import asyncio
import signal
from collections.abc import Callable

import uvloop

from fastws import App, ConfigError, Connection, Limits, Server

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


class Echo(App):
    """A message comes, a message goes."""

    def message(self, connection: Connection, message: str | bytes) -> None:
        """Answer: str leaves as TEXT, bytes as BINARY."""
        connection.send_nowait(message)


def parse_options(description: str | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1", help="address or name to listen on")
    parser.add_argument("--port", type=int, default=9001, help="0: any free one")
    parser.add_argument("--unix", metavar="PATH", help="a Unix socket instead")
    parser.add_argument(
        "--max-message-size", type=int, default=1 << 20, metavar="BYTES", help="past it: 1009"
    )
    parser.add_argument(
        "--max-fragments", type=int, default=16384, metavar="N", help="past it: 1009"
    )
    parser.add_argument("--deflate", action="store_true", help="offer permessage-deflate")
    parser.add_argument("--loop", choices=sorted(LOOPS), default="uvloop")
    return parser.parse_args()


async def serve(app: App, options: argparse.Namespace) -> None:
    """Serve an app until SIGINT or SIGTERM; a second one ends it at once."""
    server = Server(
        app,
        limits=Limits(
            max_message_size=options.max_message_size, max_fragments=options.max_fragments
        ),
        deflate=options.deflate,
    )
    if options.unix:
        server.listen_unix(options.unix)
        where = [f"the Unix socket {options.unix}"]
    else:
        addresses = server.listen(options.host, options.port)
        where = [f"ws://[{a}]:{p}" if ":" in a else f"ws://{a}:{p}" for a, p in addresses]
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    server.start()
    print("listening on", *where, flush=True)
    await stopped.wait()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)
    await server.stop()


def main(app: App, description: str | None) -> None:
    """Serve an app with the options of the command line."""
    options = parse_options(description)
    with asyncio.Runner(loop_factory=LOOPS[options.loop]) as runner:
        try:
            runner.run(serve(app, options))
        except ConfigError as error:
            raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main(Echo(), __doc__)
