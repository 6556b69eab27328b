"""The limit of open files: raised as far as we may, and how many connections it has room for.

Layer 6.
"""

import logging
import resource
from contextlib import suppress

from fastws.checks import check_integer
from fastws.errors import ConfigError

logger = logging.getLogger("fastws")

FEW = 1000  # connections; a limit that has room for fewer is said
HOW = "raise the limit (ulimit -n, or LimitNOFILE of systemd)"
LEAST_FILES = 24
RESERVED_FILES = 128  # descriptors that connections leave: 64 for those to be refused, and others


def file_limit() -> int:
    """Raise the soft limit of open files to the hard one, where we may, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def check_file_limit() -> None:
    """Refuse a limit that does not even do for an event loop and a listening socket.

    Raises:
        ConfigError: it says the limit.
    """
    limit = file_limit()
    if limit < LEAST_FILES:
        raise ConfigError(
            "RLIMIT_NOFILE", f"a limit of {limit} open files is below {LEAST_FILES}: {HOW}"
        )


def connection_limit(max_connections: int | None) -> int:
    """Return how many connections can be served; one at least.

    Args:
        max_connections: 1 to 10,000,000, or None: as many as the limit of open files has room
            for. More than that is lowered to it, with a warning in the log.

    Raises:
        ConfigError: it is out of range.
    """
    if max_connections is not None:
        check_integer("max_connections", max_connections, 1, 10_000_000)
    limit, room = _room()
    if max_connections is None:
        return room
    if max_connections > room:
        logger.warning(
            "max_connections is %s, but the limit of open files, %s, has room for %s: that many "
            "are served; %s",
            f"{max_connections:,}",
            f"{limit:,}",
            f"{room:,}",
            HOW,
        )
    return min(max_connections, room)


def say_low_limit(max_connections: int | None) -> None:
    """Say in the log when nobody chose how many connections are served, and there are few."""
    limit, room = _room()
    if max_connections is None and room < FEW:
        logger.warning(
            "the limit of open files, %s, has room for %s: no more are served; %s",
            f"{limit:,}",
            "1 connection" if room == 1 else f"{room:,} connections",
            HOW,
        )


def _room() -> tuple[int, int]:
    """Return the limit of open files, and how many connections it has room for."""
    limit = file_limit()
    return limit, max(1, limit - RESERVED_FILES)
