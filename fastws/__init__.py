"""fastws: a WebSocket server for live data; one wire log per topic, a position per subscriber.

The public interface. `fastws serve` and the rest of the command line live in `fastws.cli`.
"""

from fastws._frame import Connection, Engine, Frame, Subscription, Topic, broadcast
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
)
from fastws.http.request import Request
from fastws.http.response import Response
from fastws.lag import History, Lag, Message, Position
from fastws.server.app import App
from fastws.server.limits import Limits
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
    "TickFeed",
    "Topic",
    "broadcast",
    "connect",
    "serve",
]
