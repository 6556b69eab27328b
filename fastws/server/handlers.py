"""What a handler is: whether it is async, and what it may return. Layer 6."""

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction, unwrap

Handler = Callable[..., Awaitable[None] | None]


def is_async(handler: Callable[..., object]) -> bool:
    """Whether it is `async def`, or what `functools.wraps` put around one."""
    return iscoroutinefunction(unwrap(handler, stop=iscoroutinefunction))


def check_done(result: object) -> None:
    """Fail on what a handler that is not async returned: nobody would await it.

    Raises:
        TypeError: it is not None.
    """
    if result is not None:
        raise TypeError(
            f"a handler returned {result!r}; it returns None (what it has to say goes by "
            "connection.send_nowait), and to be awaited it must be `async def`"
        )
