"""The limits of a server or client: names, defaults, units and ranges, each declared once.

Layer 5. The options of `fastws serve`, the check of each value and the engine's arguments come
from the fields of `Limits`.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from fastws.checks import LEAST_BUDGET, check_integer
from fastws.errors import ConfigError, printable
from fastws.http.head import HeadLimits

MOST_CONNECTIONS = 10_000_000
LEAST_TIME, MOST_TIME = 0.1, 86_400.0  # seconds; the engine looks at them every 0.25 s
KIB, MIB = 1 << 10, 1 << 20
LOOPBACK = ("127.0.0.0/8", "::1/128")
MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291 2.5.5.2: what an IPv4 address stands behind in IPv6
ALL_IPV4 = IPv6Network("::ffff:0:0/96")
MOST_EXEMPT = 16


def _count(default: int | None, low: int, high: int, text: str) -> Any:
    return field(default=default, metadata={"help": text, "low": low, "high": high})


def _seconds(default: float, text: str, *, may_be_off: bool = False) -> Any:
    return field(default=default, metadata={"help": text, "may_be_off": may_be_off})


def _networks(default: tuple[str, ...], text: str) -> Any:
    return field(default=default, metadata={"help": text, "networks": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What bounds one server, or one client, and after how long it gives up.

    The time-outs are seconds, 0.1 to 86,400. Most of them measure progress, not totals: a peer that
    moves at least 1 KiB within the time has the same time again.

    Args:
        max_connections: 1 to 10,000,000; past it 503. None takes what the limit of open files
            (raised as far as we may) has room for; more is lowered to it, with a warning.
        max_per_address: connections of one address (IPv6: of one /64); past it 429. None: three
            quarters of `max_connections`, so that no address takes them all. 0: no limit.
        handshake_rate: HTTP requests, handshakes included, of one address (IPv6: of one /64) a
            second, and that many at once; past it 429 with Retry-After. 0: no limit.
        exempt_addresses: addresses and networks that these two do not count, at most 16: the
            proxies in front. By default loopback; Unix sockets have no address. ::/0 has IPv4, too.
        message_rate: messages, pings and pongs that one connection may send in a second, and that
            many at once; past it it is not read from until the rate allows more. 0: no limit.
        byte_rate: bytes of its WebSocket, as they come in (compressed ones as such); likewise.
        max_message_size: bytes of a message received; past it 1009.
        max_fragments: frames of one; past it 1009.
        max_head_size: bytes of a request's head, 256 to 65,536; past it 431.
        max_head_line: bytes of one line of it; past it 431, for the target 414.
        max_head_fields: fields of it; past it 431.
        max_body_size: bytes of a request's body, up to 1 GiB; past it 413.
        handler_queue: messages of one connection (1 to 65,534) that may wait for a coroutine; then
            it is not read from.
        high_mark: bytes of direct sends waiting for one connection past which `send` waits, at
            most `outbox_limit`.
        outbox_limit: bytes of memory of the same past which `send_nowait` raises LogFull; past a
            quarter of it the peer is not read from.
        max_log_bytes: bytes of memory that the logs of all topics may take together, 1 MiB up; past
            it the oldest messages of those that hold most go first. None: the smaller of 256 MiB
            and an eighth of the memory that the control group or the machine has.
        max_buffered_bytes: bytes of memory that all else may take that waits in user memory, 1 MiB
            up: direct sends and responses, messages and requests that are not whole, what other
            threads staged. Past it sends raise LogFull, requests get 503, and those connections
            that hold most are closed with 1013. None: as for max_log_bytes.
        max_subscriptions: of one connection; past it `subscribe` raises SubscriptionLimit. 0: no
            limit.
        max_topic_name: bytes of a topic's name in a request of `App.plain_topics`, up to 1,024;
            past it 400.
        handshake_timeout: from accept, or a later request's first byte, to the end of its head and
            the decision on it; then in which a body ends or progresses. Closed, or 503.
        keep_alive_timeout: from the end of an HTTP response to the next request; longer than the
            60 s for which load balancers keep their connections. A response has it to progress.
        close_timeout: from a Close to its answer; what is queued before it has it to progress.
        ping_interval: between pings, the shortest, up to a tenth less at random. The first one
            comes at random in its second half; each one that is answered makes the next one a
            quarter later, up to 2.5 times the interval and 50 s. 0: no pings.
        pong_timeout: for the answer; bytes received or confirmed meanwhile begin it anew.
        message_timeout: in which a message ends or progresses, else 1008. 0: no limit.
        write_timeout: in which a client whose socket is full confirms 1 KiB. 0: no limit.

    Raises:
        ConfigError: of the wrong type or out of range; one clear line.
    """

    max_connections: int | None = _count(
        None,
        1,
        MOST_CONNECTIONS,
        "Connections at once; past it 503. Default, and at most: what the limit of open files "
        "allows.",
    )
    max_per_address: int | None = _count(
        None,
        0,
        2**32 - 1,
        "Connections of one address (IPv6: of a /64); past it 429. 0: no limit. Default: three "
        "quarters of --max-connections.",
    )
    handshake_rate: int = _count(
        0,
        0,
        1_000_000,
        "HTTP requests of one address (IPv6: of a /64) a second, handshakes included; past it 429. "
        "0: no limit.",
    )
    exempt_addresses: tuple[str, ...] = _networks(
        LOOPBACK,
        "Address or network, such as a proxy, for which the two options above do not hold; ::/0 "
        "has IPv4, too. May be repeated, none: no address.",
    )
    message_rate: int = _count(
        0,
        0,
        1_000_000,
        "Messages, pings and pongs of one client a second; past it the client is not read from "
        "for a while. 0: no limit.",
    )
    byte_rate: int = _count(
        0,
        0,
        2**34,
        "Bytes of one client a second, as they come in; past it the client is not read from for a "
        "while. 0: no limit.",
    )
    max_message_size: int = _count(
        MIB, 0, 2**63 - 1, "Bytes of a client's message; past it close 1009."
    )
    max_fragments: int = _count(
        16_384, 1, 2**32 - 1, "Fragments of a client's message; past it close 1009."
    )
    max_head_size: int = _count(16 * KIB, 256, 64 * KIB, "Bytes of a request's head; past it 431.")
    max_head_line: int = _count(
        8 * KIB, 64, 64 * KIB, "Bytes of a line of the head; past it 431, for the first line 414."
    )
    max_head_fields: int = _count(64, 1, 10_000, "Header fields of a request; past it 431.")
    max_body_size: int = _count(64 * KIB, 0, 2**30, "Bytes of a request's body; past it 413.")
    handler_queue: int = _count(
        16,
        1,
        65_534,
        "Messages of one client that may wait for its coroutine; then the client is not read from.",
    )
    high_mark: int = _count(
        64 * KIB,
        1,
        2**32 - 1,
        "Bytes of direct sends waiting for one client, past which `await ws.send()` waits.",
    )
    outbox_limit: int = _count(
        MIB,
        1,
        2**32 - 1,
        "Bytes of memory of the same, past which `ws.send_nowait()` raises LogFull.",
    )
    max_log_bytes: int | None = _count(
        None,
        LEAST_BUDGET,
        2**62,
        "Bytes for the logs of all topics; past it the oldest messages are dropped. Default: an "
        "eighth of the memory, 256 MiB at most.",
    )
    max_buffered_bytes: int | None = _count(
        None,
        LEAST_BUDGET,
        2**62,
        "Bytes for all else that waits; past it the connections that hold most are closed. "
        "Default: an eighth of the memory, 256 MiB at most.",
    )
    max_subscriptions: int = _count(
        10_000, 0, 2**32 - 1, "Topics to which one client is subscribed at once. 0: no limit."
    )
    max_topic_name: int = _count(
        128, 1, 1024, "Bytes of the name of a topic that a client asks for; past it 400."
    )
    handshake_timeout: float = _seconds(
        10.0, "For a request's head and the decision on it; then 503, or cut off."
    )
    keep_alive_timeout: float = _seconds(
        75.0, "Between two requests of an HTTP connection; then closed."
    )
    close_timeout: float = _seconds(5.0, "For the answer to a Close; then cut off.")
    ping_interval: float = _seconds(
        20.0,
        "Between pings, at first; grows with each answer to 2.5 times, 50 s at most. 0: no pings.",
        may_be_off=True,
    )
    pong_timeout: float = _seconds(
        20.0, "For the answer to a ping; then close 1011. Any bytes begin it anew."
    )
    message_timeout: float = _seconds(
        60.0,
        "For a message to end or to bring 1 KiB more; then close 1008. 0: no limit.",
        may_be_off=True,
    )
    write_timeout: float = _seconds(
        30.0,
        "For a client whose socket is full to take 1 KiB; then closed. 0: no limit.",
        may_be_off=True,
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if "networks" in each.metadata:
                networks = tuple(str(network) for network in _networks_of(each.name, value))
                object.__setattr__(self, each.name, networks)
            elif "low" not in each.metadata:
                _check_seconds(each.name, value, may_be_off=each.metadata["may_be_off"])
            elif value is not None or each.default is not None:
                check_integer(each.name, value, each.metadata["low"], each.metadata["high"])
        if self.high_mark > self.outbox_limit:
            raise ConfigError("high_mark", "must not exceed outbox_limit")

    def of_heads(self) -> HeadLimits:
        """Return the limits of one request."""
        return HeadLimits(
            head_bytes=self.max_head_size,
            line_bytes=self.max_head_line,
            headers=self.max_head_fields,
            body_bytes=self.max_body_size,
        )

    def of_engine(self) -> dict[str, Any]:
        """Return the arguments of an Engine by name; the caller knows what None stands for."""
        ours = asdict(self)
        ours["head_limit"] = ours.pop("max_head_size")
        exempt = _networks_of("exempt_addresses", ours.pop("exempt_addresses"))
        ours["exempt"] = [_in_ipv6(network) for network in exempt]
        for name in ("max_head_line", "max_head_fields", "max_body_size", "handler_queue"):
            del ours[name]
        del ours["max_topic_name"]
        return ours


def _networks_of(name: str, value: object) -> list[IPv4Network | IPv6Network]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigError(name, f"must be a list, such as ['10.0.0.0/8'], not {value!r}")
    found = []
    for each in value:
        try:
            found.append(ip_network(each if isinstance(each, str) else "", strict=False))
        except ValueError:
            text = printable(str(each), 64)
            raise ConfigError(name, f"{text} is no address or network of IP") from None
        if _has_ipv4_by_mistake(found[-1]):
            text = printable(str(each), 64)
            raise ConfigError(name, f"{text} has all of IPv4; write IPv4 networks as 10.0.0.0/8")
    if len(found) > MOST_EXEMPT:
        raise ConfigError(name, f"at most {MOST_EXEMPT} networks")
    return found


def _has_ipv4_by_mistake(network: IPv4Network | IPv6Network) -> bool:
    """Whether a prefix counts the bits of an IPv4 address behind ::ffff: as if it stood alone.

    `::ffff:10.0.0.0/8` is ::/8, with every IPv4 client in it. `::/0` says that it has them.
    """
    return (
        isinstance(network, IPv6Network) and network.prefixlen > 0 and network.supernet_of(ALL_IPV4)
    )


def _in_ipv6(network: IPv4Network | IPv6Network) -> tuple[bytes, int]:
    """Return its address and the bits of it that count, as mapped into IPv6."""
    if isinstance(network, IPv6Network):
        return network.network_address.packed, network.prefixlen
    return MAPPED + network.network_address.packed, 8 * len(MAPPED) + network.prefixlen


def _check_seconds(name: str, value: object, *, may_be_off: bool) -> None:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not (LEAST_TIME <= value <= MOST_TIME or (may_be_off and value == 0)):  # type: ignore[operator]
        off = ", or 0 for none" if may_be_off else ""
        raise ConfigError(name, f"must be {LEAST_TIME} to {MOST_TIME:,.0f} seconds{off}")
