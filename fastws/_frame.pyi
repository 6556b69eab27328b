"""Types of the binding of the core; the contracts stand in `_frame.pyx`."""

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Sequence,
)
from typing import Any, Literal, Self, TypedDict, final, type_check_only

from fastws.errors import Close, ConnectionClosed
from fastws.http.request import Request
from fastws.lag import Gap, History, Lag, Message, Position
from fastws.ticks.config import Fields, Format, Late, Rate

OnSlow = Literal["close", "latest", "drop_oldest", "lossless"]
Content = Literal["text", "json", "binary"]

@type_check_only
class TopicOptions(TypedDict):
    on_slow: OnSlow
    max_lag: Lag
    retention_bytes: int
    history: History
    retain: bool
    min_rate: int
    content: Content

FORMATS: dict[str, int]
FIELDS: dict[str, int]

def deflate_available() -> bool: ...
def one_of(what: str, names: dict[str, int], value: object) -> int: ...
def broadcast(
    connections: Iterable[Connection], message: Payload, *, text: bool = False
) -> list[Connection]: ...
def check_close(code: int, reason: str) -> None: ...
def check_lag(max_lag: Lag) -> None: ...
def closed_error(connection: Connection) -> ConnectionClosed: ...

@type_check_only
class Sums(TypedDict):
    published: int
    delivered: int
    acknowledged: int
    dropped: int
    conflated: int
    pending: int

@type_check_only
class TopicAccount(Sums):
    subscribers: int
    retained_bytes: int
    appended: int

@type_check_only
class ConnectionAccount(TypedDict):
    published: int
    delivered: int
    acknowledged: int | None
    dropped: int
    conflated: int
    pending: int
    lag_bytes: int
    lag_seconds: float

@type_check_only
class LaggardAccount(ConnectionAccount):
    why: str

@type_check_only
class Quantiles(TypedDict):
    p50: float
    p99: float
    max: float

@type_check_only
class LastClient(Quantiles):
    n: int

@type_check_only
class Pacing(TypedDict):
    sent: int
    missed: int
    slope_ppm: float
    lag_us: Quantiles
    burst: Quantiles

@type_check_only
class Latency(Quantiles):
    n: int
    mean: float

@type_check_only
class Metered(TypedDict):
    frames: int
    bytes: int
    sampled: int
    bad: int
    gaps: int
    missed: int
    duplicates: int
    reordered: int
    first_error: str
    latency_ms: Latency

@final
class Done(Coroutine[Any, Any, None]):
    def __iter__(self) -> Self: ...
    def __next__(self) -> None: ...
    def __await__(self) -> Generator[Any]: ...
    def send(self, _: Any) -> Any: ...
    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> Any: ...
    def close(self) -> None: ...

@final
class Frame:
    data: bytes
    def __new__(cls, payload: Payload, *, masking_key: bytes | None = None) -> Self: ...
    def __bytes__(self) -> bytes: ...
    def __len__(self) -> int: ...

Payload = bytes | str | bytearray | memoryview | Frame

@final
class Topic:
    engine: Engine
    on_first_subscriber: Callable[[Topic], object] | None
    on_last_subscriber: Callable[[Topic], object] | None
    crowded: bool
    @property
    def name(self) -> str: ...
    @property
    def epoch(self) -> str: ...
    @property
    def seq(self) -> int: ...
    @property
    def retained(self) -> Message | None: ...
    def snapshot(self) -> dict[str, Message]: ...
    def position(self, since: tuple[str, int] | None = None) -> Position: ...
    def history(self, limit: int | None = None) -> list[Message]: ...
    @property
    def options(self) -> TopicOptions: ...
    def publish(
        self,
        data: Payload,
        *,
        key: str | None = None,
        text: bool = False,
        exclude: Connection | None = None,
    ) -> None: ...
    def publish_wait(
        self,
        data: Payload,
        *,
        key: str | None = None,
        text: bool = False,
        exclude: Connection | None = None,
    ) -> Coroutine[Any, Any, None]: ...
    def offer(
        self,
        data: Payload,
        *,
        key: str | None = None,
        text: bool = False,
        exclude: Connection | None = None,
    ) -> bool: ...
    def notify_room(self, data: Payload) -> None: ...
    def publish_all(
        self, messages: Iterable[Payload], *, key: str | None = None, text: bool = False
    ) -> int: ...
    def configure(
        self,
        *,
        on_slow: OnSlow | None = None,
        max_lag: Lag | None = None,
        retention_bytes: int | None = None,
        history: History | None = None,
        retain: bool | None = None,
        min_rate: int | None = None,
        content: Content | None = None,
    ) -> None: ...
    def close(self) -> None: ...
    def account(self) -> TopicAccount: ...
    @property
    def subscribers(self) -> int: ...
    @property
    def delivered(self) -> int: ...
    @property
    def appended(self) -> int: ...

@final
class Subscription:
    connection: Connection
    topic: Topic
    @property
    def active(self) -> bool: ...
    @property
    def on_slow(self) -> OnSlow: ...
    @property
    def max_lag(self) -> Lag: ...
    @property
    def envelope(self) -> bool: ...
    @property
    def batch(self) -> int | None: ...
    @property
    def keys(self) -> tuple[str, ...] | None: ...
    @property
    def max_rate(self) -> float | None: ...
    @property
    def epoch(self) -> str: ...
    @property
    def seq(self) -> int: ...
    @property
    def recovered(self) -> bool | None: ...
    def unsubscribe(self) -> None: ...
    def account(self) -> ConnectionAccount: ...

@final
class Wildcard:
    connection: Connection
    pattern: str
    @property
    def active(self) -> bool: ...
    @property
    def topics(self) -> list[str]: ...
    def unsubscribe(self) -> None: ...

@final
class Connection:
    engine: Engine
    id: int
    context: Any
    session: Any
    on_message: Callable[[Connection, str | bytes], object] | None
    crowded: bool
    reason: str | None
    def send_nowait(self, data: Payload) -> None: ...
    def send(self, data: Payload) -> Coroutine[Any, Any, None]: ...
    def drain(self) -> Coroutine[Any, Any, None]: ...
    def recv(self) -> Coroutine[Any, Any, str | bytes]: ...
    def __aiter__(self) -> AsyncIterator[str | bytes]: ...
    def send_ping(self, payload: bytes) -> None: ...
    def ping(self, data: bytes | None = None) -> Coroutine[Any, Any, float]: ...
    def wait_closed(self) -> Coroutine[Any, Any, None]: ...
    def close(self, code: int = 1000, reason: str = "") -> Awaitable[None]: ...
    def abort(self) -> None: ...
    def subscribe(
        self,
        topic: Topic | str,
        *,
        since: tuple[str, int] | None = None,
        on_slow: OnSlow | None = None,
        max_lag: Lag | None = None,
        keys: Iterable[str] | None = None,
        max_rate: float | None = None,
        on_gap: Callable[[Subscription, Gap], object] | None = None,
        envelope: bool = False,
        batch: int | None = None,
    ) -> Subscription: ...
    def subscribe_pattern(
        self,
        pattern: str,
        *,
        on_slow: OnSlow | None = None,
        max_lag: Lag | None = None,
        keys: Iterable[str] | None = None,
        max_rate: float | None = None,
        on_gap: Callable[[Subscription, Gap], object] | None = None,
    ) -> Wildcard: ...
    def unsubscribe(self, topic: Topic) -> None: ...
    def pause_reading(self, *, after: int = 0) -> None: ...
    def resume_reading(self) -> None: ...
    @property
    def close_code(self) -> int | None: ...
    @property
    def remote_address(self) -> tuple[str, int]: ...
    @property
    def request(self) -> Request: ...
    @property
    def subprotocol(self) -> str | None: ...
    @property
    def position(self) -> tuple[str, int] | None: ...
    @property
    def recovered(self) -> bool | None: ...
    @property
    def is_open(self) -> bool: ...
    @property
    def close_received(self) -> Close | None: ...
    @property
    def close_sent(self) -> Close | None: ...
    @property
    def closed_by_peer(self) -> bool | None: ...
    @property
    def buffered_amount(self) -> int: ...
    @property
    def is_full(self) -> bool: ...
    def notify_room(self) -> None: ...
    def account(self) -> ConnectionAccount: ...

@final
class Engine:
    on_head: Callable[[Connection, bytes], None] | None
    on_head_limit: Callable[[Connection, bytes], None] | None
    on_body: Callable[[Connection, bytes], None] | None
    on_undecided: Callable[[Connection], None] | None
    on_message: Callable[[Connection, str | bytes], object] | None
    on_close: Callable[[Connection], object] | None
    on_room: Callable[[Connection], object] | None
    on_topic_room: Callable[[Topic], object] | None
    on_pong: Callable[[Connection, bytes], object] | None
    on_error: Callable[[Connection, BaseException], object] | None
    on_topic_error: Callable[[Topic, BaseException], object] | None
    on_topic_closed: Callable[[Topic], object] | None
    schedule: Callable[[], None] | None
    waits: Any
    telling: Callable[[Subscription, Gap], object] | None
    def __new__(
        cls,
        *,
        head_limit: int = 16384,
        max_connections: int = 10000,
        handshake_timeout: float = 10.0,
        keep_alive_timeout: float = 75.0,
        close_timeout: float = 5.0,
        max_stall: float = 5.0,
        ping_interval: float = 20.0,
        pong_timeout: float = 20.0,
        message_timeout: float = 60.0,
        write_timeout: float = 30.0,
        max_per_address: int = 0,
        handshake_rate: int = 0,
        exempt: Sequence[tuple[bytes, int]] = (),
        message_rate: int = 0,
        byte_rate: int = 0,
        max_message_size: int = 1048576,
        max_fragments: int = 16384,
        outbox_limit: int = 1048576,
        high_mark: int | None = None,
        notsent_lowat: int = 16384,
        max_log_bytes: int = 268435456,
        max_buffered_bytes: int = 268435456,
        max_subscriptions: int = 0,
    ) -> Self: ...
    def fileno(self) -> int: ...
    def listen(self, fd: int) -> None: ...
    def unlisten(self, fd: int) -> None: ...
    def attach(self, fd: int, request: bytes) -> Connection: ...
    def topic(
        self,
        name: str,
        *,
        on_slow: OnSlow | None = None,
        max_lag: Lag | None = None,
        retention_bytes: int | None = None,
        history: History | None = None,
        retain: bool | None = None,
        min_rate: int | None = None,
        content: Content | None = None,
    ) -> Topic: ...
    def find_topic(self, name: str) -> Topic | None: ...
    def topics(
        self,
        pattern: str,
        *,
        on_slow: OnSlow | None = None,
        max_lag: Lag | None = None,
        retention_bytes: int | None = None,
        history: History | None = None,
        retain: bool | None = None,
        min_rate: int | None = None,
        content: Content | None = None,
    ) -> None: ...
    def topic_accounts(self, n: int) -> dict[str, TopicAccount]: ...
    def account(self) -> Sums: ...
    def turn(self, timeout: float | None = 0.0, *, poll: bool = True) -> bool: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...
    @property
    def connections(self) -> list[Connection]: ...
    @property
    def foreign(self) -> bool: ...
    @property
    def inherited(self) -> bool: ...
    def all_connections(self) -> list[Connection]: ...
    @property
    def live(self) -> int: ...
    def counters(self) -> dict[str, int]: ...
    def met_last(self) -> dict[str, str]: ...
    @property
    def buffered_bytes(self) -> int: ...
    def laggards(self, n: int) -> list[tuple[Connection, LaggardAccount]]: ...
    def latency(self) -> LastClient: ...
    def respond(self, connection: Connection, data: bytes, *, keep_alive: bool) -> None: ...
    def upgrade(self, connection: Connection, data: bytes, *, window_bits: int = 0) -> None: ...
    def upgrade_with(
        self, connection: Connection, make: Callable[[], bytes], *, window_bits: int = 0
    ) -> None: ...
    def expect_body(self, connection: Connection, n: int, data: bytes = b"") -> None: ...
    def is_http(self, connection: Connection) -> bool: ...
    def over_limit(self, connection: Connection) -> bool: ...
    def over_address(self, connection: Connection) -> bool: ...
    def start_source(
        self,
        topic: Topic,
        *,
        seed: int,
        format: Format = "json",
        fields: Fields = "base",
        late: Late = "burst",
    ) -> None: ...
    def set_rate(self, rate: Rate) -> None: ...
    def set_format(self, format: Format) -> None: ...
    def pacing(self) -> Pacing: ...
    def meter(self, connection: Connection, *, any: bool = False) -> None: ...
    def metered_of(self, connection: Connection) -> tuple[int, int, int, int, int, int]: ...
    def numbered(self, connection: Connection) -> bool: ...
    def record_latency(self, recording: bool) -> None: ...
    def metered(self) -> Metered: ...
