"""fastws: a WebSocket broadcast server; one wire log per topic, a position per subscriber.

The public interface. `fastws serve` and the rest of the command line live in `fastws.cli`.
"""

from fastws._frame import Connection, Engine, Frame, Subscription, Topic, broadcast
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
from fastws.lag import History, Lag
from fastws.server import Server

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
    "broadcast",
]
