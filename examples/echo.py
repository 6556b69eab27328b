"""Sends every message back to its sender.

While a client does not take its answers, `send` waits, and the client is not read from.
"""

from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from collections.abc import Callable, Coroutine
from typing import Any

import fastws

Handler = Callable[[fastws.Connection], Coroutine[None, None, None]]


async def echo(ws: fastws.Connection) -> None:
    """Answer each message: str leaves as TEXT, bytes as BINARY."""
    async for message in ws:
        await ws.send(message)


async def serve(handler: Handler, host: str, port: int, unix: str | None, **options: Any) -> None:
    """Serve until Ctrl-C or SIGTERM; a second one ends it at once."""
    deflate, limits = bool(options.pop("deflate")), fastws.Limits(**options)
    async with fastws.serve(handler, host, port, unix=unix, limits=limits, deflate=deflate) as it:
        name = f"[{host}]" if ":" in host else host
        where = {f"ws://{name}:{each.getsockname()[1]}" for each in it.sockets if not unix}
        print("listening on", *(where or [f"the Unix socket {unix}"]), flush=True)
        await it.serve_forever()


def main(handler: Handler, description: str | None) -> None:
    """Serve a handler with the options of the command line."""
    parser = ArgumentParser(description=description, formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1", help="address or name to listen on")
    parser.add_argument("--port", type=int, default=9001, help="0: any free one")
    parser.add_argument("--unix", metavar="PATH", help="a Unix socket instead")
    parser.add_argument("--max-message-size", type=int, default=1 << 20, help="past it: 1009")
    parser.add_argument("--max-fragments", type=int, default=16_384, help="past it: 1009")
    parser.add_argument("--deflate", action="store_true", help="offer permessage-deflate")
    loops = ("asyncio", "uvloop")
    parser.add_argument("--loop", choices=loops, default="uvloop", help="event loop")
    options = vars(parser.parse_args())
    loop = options.pop("loop")
    try:
        fastws.run(serve(handler, **options), loop=loop)
    except fastws.ConfigError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main(echo, __doc__)
