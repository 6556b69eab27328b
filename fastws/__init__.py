"""fastws: a WebSocket server for live data; one wire log per topic, a position per subscriber.

The public interface. `fastws serve` and the rest of the command line live in `fastws.cli`.
"""

from pathlib import Path

try:
    from fastws._frame import Connection, Engine, Frame, Subscription, Topic, Wildcard, broadcast
except ModuleNotFoundError as error:
    if error.name != "fastws._frame":
        raise
    raise ImportError(
        f"fastws has no compiled extension in {Path(__file__).parent}. This is the source tree, "
        "which hides an installed fastws: work in another directory, or build the extension here "
        "with `pip install -e .`"
    ) from None
from fastws.client.connect import connect
from fastws.errors import (
    Close,
    ConfigError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    FastwsError,
    HandshakeError,
    InvalidHandshake,
    LogFull,
    SubscriptionLimit,
)
from fastws.http.request import Request
from fastws.http.response import Response
from fastws.lag import Gap, History, Lag, Message, Position
from fastws.server.app import App
from fastws.server.limits import Limits
from fastws.server.running import run
from fastws.server.server import Server
from fastws.server.serving import serve
from fastws.ticks.config import FeedConfig, ServeOptions
from fastws.ticks.feed import TickFeed

__all__ = [
    "App",
    "Close",
    "ConfigError",
    "Connection",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "Engine",
    "FastwsError",
    "FeedConfig",
    "Frame",
    "Gap",
    "HandshakeError",
    "History",
    "InvalidHandshake",
    "Lag",
    "Limits",
    "LogFull",
    "Message",
    "Position",
    "Request",
    "Response",
    "ServeOptions",
    "Server",
    "Subscription",
    "SubscriptionLimit",
    "TickFeed",
    "Topic",
    "Wildcard",
    "broadcast",
    "connect",
    "run",
    "serve",
]
