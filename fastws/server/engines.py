"""Makes an engine of Limits, with what can be awaited of its connections. Layer 6."""

from fastws._frame import Engine
from fastws.server.limits import Limits
from fastws.server.memory import memory_budget
from fastws.server.open_files import connection_limit
from fastws.server.waits import Waits


def make_engine(limits: Limits) -> tuple[Engine, Waits]:
    """Return an engine, and who is to hear of the ends of its connections.

    Raises:
        ConfigError: as `Limits`.
    """
    options = limits.of_engine()
    most = options["max_connections"] = connection_limit(limits.max_connections)
    if limits.max_per_address is None:
        options["max_per_address"] = max(1, most * 3 // 4)
    for name in ("max_log_bytes", "max_buffered_bytes"):
        options[name] = memory_budget(name, options[name])
    engine = Engine(**options)
    waits = engine.waits = Waits()
    engine.on_room = waits.on_room
    engine.on_topic_room = waits.publishers.on_room
    engine.on_topic_closed = waits.publishers.on_close
    engine.on_pong = waits.on_pong
    return engine, waits
