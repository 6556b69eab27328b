"""Takes the turns of an engine in an event loop, and says who may. Layer 6.

Knows the loop and its thread; neither connections nor what is served.
"""

import asyncio
import contextvars
import threading
from contextlib import suppress

from fastws._frame import Engine

FORKED = "the server belongs to the process that this one was forked from"


class Driver:
    """Takes the turns of one engine, in `loop`, which is None before and after."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._context: contextvars.Context | None = None  # of the turns
        self._turn_due = False
        self._events = False  # the engine's descriptor was readable since the last turn
        self._turned = False  # one that was due has been taken in this round of the loop

    def start(self) -> None:
        """Take turns in the running loop from now on; RuntimeError without one."""
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        # Else a turn, and the handlers of others in it, would have the context of the handler
        # that sent something last.
        self._context = contextvars.copy_context()
        self.engine.schedule = self.turn_soon
        self.loop.add_reader(self.engine.fileno(), self._ready)
        self.turn_soon()

    def stop(self) -> None:
        """Take no more. Idempotent."""
        # In a child the loop's poller is the parent's, too, which would hear no more events.
        if self.loop is not None and not self.engine.inherited:
            with suppress(RuntimeError):
                self.loop.remove_reader(self.engine.fileno())
        self.loop = None
        self.engine.schedule = None

    def check_thread(self) -> None:
        """Fail in another thread than that of the loop, unless both have ended; or in a child.

        Raises:
            RuntimeError: it says what to call.
        """
        if self.engine.inherited:
            raise RuntimeError(f"{FORKED}; close() closes the child's descriptors")
        running = self.loop is not None and self.loop.is_running()
        if running and threading.get_ident() != self._thread:
            raise RuntimeError(
                "called in another thread than the loop's; use loop.call_soon_threadsafe for "
                "close, asyncio.run_coroutine_threadsafe for stop"
            )
        if not running and self.engine.foreign:
            raise RuntimeError(
                "called in another thread than the loop's, which has not ended: call it there"
            )

    def turn_soon(self) -> None:
        """Take a turn when the loop comes round."""
        if not self._turn_due and self.loop is not None:
            self._turn_due = True
            self.loop.call_soon(self._due, context=self._context)

    def turn_now(self) -> None:
        """Take a turn, called in a task."""
        if self._context is not None:
            self._context.run(self.turn)

    def turn(self, *, poll: bool = True) -> None:
        """Take a turn, and another one soon if that leaves work."""
        more = self.loop is not None
        self._events = False
        try:
            more = more and self.engine.turn(poll=poll)
        except OSError:  # its poller is gone: the next turn would say the same
            more = False
            raise
        except BaseException:  # a KeyboardInterrupt may be caught, and then the loop goes on
            more = more and not self.engine.foreign
            if self.engine.inherited:
                more, self.loop = False, None  # whatever still runs in the child's copy of the loop
            raise
        finally:
            if more:
                self.turn_soon()

    def _due(self) -> None:
        self._turn_due = False
        if self.loop is not None:
            self._turned = True
            self.loop.call_soon(self._next_round)  # ahead of whatever the turn asks for
        self.turn(poll=self._events)

    def _next_round(self) -> None:
        self._turned = False

    def _ready(self) -> None:
        # One turn in a round of the loop. A second one could read a message before the task of its
        # handler has begun; and two, each asking for another, would pile up, while the loop's other
        # work would wait for them all. A turn that is due looks at the events as well.
        self._events = True
        if self._turned:
            self.turn_soon()
        elif not self._turn_due:
            self.turn()
