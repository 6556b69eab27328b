"""Sends every message of a client to every other client.

A client that does not read delays nobody: when 1 MiB is waiting for it, it is closed with 1013. To
send the same messages to thousands, publish them to a topic (chat.py): one copy serves them all.
"""

from echo import main  # the example beside this one: options, loop, signals

import fastws

TRY_AGAIN_LATER = 1013
here: set[fastws.Connection] = set()


async def fanout(ws: fastws.Connection) -> None:
    """Pass each message on."""
    here.add(ws)
    try:
        async for message in ws:
            frame = fastws.Frame(message)
            for other in here - {ws}:
                pass_on(other, frame)
    finally:
        here.discard(ws)


def pass_on(other: fastws.Connection, frame: fastws.Frame) -> None:
    """Send without waiting."""
    try:
        other.send_nowait(frame)
    except fastws.LogFull:
        other.close(TRY_AGAIN_LATER, "slow consumer")
    except fastws.ConnectionClosed:
        here.discard(other)


if __name__ == "__main__":
    main(fanout, __doc__)
