"""fastws: a WebSocket broadcast server; one wire log per topic, a position per subscriber.

The public interface. `fastws serve` and the rest of the command line live in `fastws.cli`.
"""

from fastws._frame import Connection, Engine, Frame, Subscription, Topic
<<<<<<< HEAD
from fastws.errors import ConfigError, ConnectionClosed, FastwsError, HandshakeError, LogFull
from fastws.http.request import Request
=======
from fastws.app import App
from fastws.config import FeedConfig, ServeOptions
from fastws.errors import (
    Close,
    ConfigError,
    ConnectionClosed,
    FastwsError,
    HandshakeError,
    LogFull,
)
from fastws.feed import TickFeed
from fastws.handshake import Request
>>>>>>> w/core10
from fastws.lag import History, Lag
from fastws.server.app import App
from fastws.server.server import Server
from fastws.ticks.config import FeedConfig, ServeOptions
from fastws.ticks.feed import TickFeed

__all__ = [
    "App",
    "Close",
    "ConfigError",
    "Connection",
    "ConnectionClosed",
    "Engine",
    "FastwsError",
    "FeedConfig",
    "Frame",
    "HandshakeError",
    "History",
    "Lag",
    "LogFull",
    "Request",
    "ServeOptions",
    "Server",
    "Subscription",
    "TickFeed",
    "Topic",
]
