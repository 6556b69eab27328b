"""Sends every message of a client to every other client.

A client that does not read loses its place, not the others' time: when 1 MiB waits for it, it is
closed with 1013. To send one thing to thousands, its source included, publish it to a topic: that
is one copy for all of them.
"""

from echo import main  # the example beside this one: options, loop, signals

from fastws import App, Connection, ConnectionClosed, LogFull, Request

TRY_AGAIN_LATER = 1013


class Fanout(App):
    """Knows who is here."""

    def __init__(self) -> None:
        self.here: set[Connection] = set()

    def opened(self, connection: Connection, request: Request) -> None:
        """Let a client in."""
        self.here.add(connection)

    def message(self, connection: Connection, message: str | bytes) -> None:
        """Pass a message on."""
        for other in self.here - {connection}:
            try:
                other.send_nowait(message)
            except LogFull:
                other.close(TRY_AGAIN_LATER, "slow consumer")
            except ConnectionClosed:
                self.here.discard(other)

    def closed(self, connection: Connection) -> None:
        """Let it go."""
        self.here.discard(connection)


if __name__ == "__main__":
    main(Fanout(), __doc__)
