"""The time-outs of a server: names, defaults and ranges, for `Server` and for `fastws serve`.

Most of them measure progress, not totals: a peer that moves at least 1 KiB within the time has the
same time again. Layer 5.
"""

from dataclasses import dataclass, field, fields
from typing import Any

from fastws.errors import ConfigError

LEAST, MOST = 0.1, 86_400.0  # seconds; the engine looks at them every 0.25 s


def _seconds(default: float, text: str, *, may_be_off: bool = False) -> Any:
    metadata = {"help": text + ("; 0: no limit." if may_be_off else "."), "may_be_off": may_be_off}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds, 0.1 to 86,400.

    Args:
        handshake_timeout: from accept, or a later request's first byte, to the end of its head and
            the decision on it; then in which a body ends or progresses. Closed, or 503.
        keep_alive_timeout: from the end of an HTTP answer to the next request; longer than the 60 s
            for which load balancers keep their connections. An answer has it to progress.
        close_timeout: from a Close to its answer; what is queued before it has it to progress.
        ping_interval: between pings, the shortest, up to a tenth less at random. The first one
            comes at random in its second half; each one that is answered makes the next one a
            quarter later, up to 2.5 times the interval and 50 s. 0: no pings.
        pong_timeout: for the answer; bytes received or confirmed meanwhile begin it anew.
        message_timeout: in which a message ends or progresses, else 1008. 0: no limit.
        write_timeout: in which a client whose socket is full confirms 1 KiB. 0: no limit.

    Raises:
        ConfigError: no number, or out of range; one clear line.
    """

    handshake_timeout: float = _seconds(10.0, "A request's head, from its first byte or accept")
    keep_alive_timeout: float = _seconds(75.0, "Between two requests of an HTTP connection")
    close_timeout: float = _seconds(5.0, "For the answer to a Close")
    ping_interval: float = _seconds(
        20.0, "Between pings, the shortest; grows to 2.5 times, at most 50", may_be_off=True
    )
    pong_timeout: float = _seconds(20.0, "For the answer to a ping, or any other bytes")
    message_timeout: float = _seconds(
        60.0, "In which a message ends or brings 1 KiB", may_be_off=True
    )
    write_timeout: float = _seconds(
        30.0, "In which a client whose socket is full takes 1 KiB", may_be_off=True
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            value, may_be_off = getattr(self, each.name), each.metadata["may_be_off"]
            good = isinstance(value, int | float) and not isinstance(value, bool)
            if not good or not (LEAST <= value <= MOST or (may_be_off and value == 0)):
                off = ", or 0 for none" if may_be_off else ""
                raise ConfigError(each.name, f"must be {LEAST} to {MOST:,.0f} seconds{off}")
