# cython: boundscheck=False, wraparound=False
"""What one coroutine receives: a queue with credit, and a wake-up without a round of the loop.

Layer 6. Knows the protocol between `asyncio.Task` and a future; neither sockets nor the core. An
Inbox owns what waits in it. The coroutine that waits is held by its task; the Inbox refers to that
task's wake-up only while it waits.

A task that awaits an Inbox gets the Inbox itself as its future, and `put` calls the task's wake-up
in place, in the task's context, instead of asking the loop to. So a message costs no future, no
handle and no round of the loop. Where a task is running already the loop is asked.

A coroutine that a task runs through a Run costs less: while it waits for nothing but the Inbox, it
is continued without its task, which goes on waiting for the Inbox and knows nothing of it.
"""

from asyncio import CancelledError, current_task
from asyncio.events import _get_running_loop
from asyncio.tasks import _enter_task, _leave_task  # as the manual has it for tasks of one's own
from collections import deque

from cpython.contextvars cimport PyContext_Enter, PyContext_Exit
from cpython.exc cimport PyErr_SetObject
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
cimport cython

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN, PYGEN_ERROR, PYGEN_NEXT
    int PyIter_Send(object iterator, object value, PyObject **result) except -1

from fastws.errors import ConnectionClosed, ConnectionClosedOK


@cython.final
cdef class Inbox:
    """The queue of one coroutine.

    At most one coroutine waits at a time. It is a future only to the task that awaits `receive`.

    Args:
        loop: the event loop of the coroutine.
        limit: how many may wait, 1 to 65,534.
        renew: `renew(after=n)` is called when n more may come than have been let in.
    """

    cdef readonly object loop
    cdef readonly Receive receive  # an awaitable and an iterator; see there
    cdef readonly unsigned long long received  # items that were put, ever
    cdef public object last  # what was taken last, once it is set; None: it is not kept
    cdef public bint _asyncio_future_blocking
    cdef object _renew
    cdef object _first, _more  # what waits, the oldest in _first; None: nothing
    cdef object _end  # the exception behind all that waits, or None
    cdef object _callback, _context  # of the task that waits
    cdef unsigned int _limit, _credit
    cdef bint _waiting, _awake
    cdef bint _advancing  # a Run continues its coroutine, while its task waits for this
    cdef bint _refused  # a cancellation meanwhile
    cdef Run _run  # the one whose coroutine waits, or None

    def __cinit__(self, loop, unsigned int limit, renew):
        self.loop = loop
        self._renew = renew
        self._limit = self._credit = limit
        self.receive = Receive.__new__(Receive)
        self.receive._inbox = self

    @classmethod
    def __class_getitem__(cls, _):
        return cls

    def __len__(self):
        return (self._first is not None) + (0 if self._more is None else len(self._more))

    def put(self, _, item):
        """Append an item (anything but None), and wake the coroutine that waits.

        The first argument is not looked at, so that this can be a listener of messages.
        """
        self.received += 1
        if self._credit > 0:
            self._credit -= 1
        if self._first is None:
            self._first = item
        elif self._more is None:
            self._more = deque((item,))
        else:
            self._more.append(item)
        if self._waiting and not self._awake:
            self._wake()

    def end(self, error not None):
        """Put an exception behind what waits: each later receive raises one like it."""
        self._end = error
        self._renew = None
        if not self._waiting or self._awake:
            return
        if _get_running_loop() is self.loop:
            self._wake()
        else:
            self._wake_later()

    def cut(self, error not None):
        """Drop what waits, and end."""
        self._first = self._more = None
        self.end(error)

    @property
    def waited_for(self):
        """Whether a coroutine waits, and has not been woken."""
        return self._waiting and not self._awake

    cdef object _take(self):
        item, self._first = self._first, None
        if self.last is not None:
            self.last = item
        if self._more:
            self._first = self._more.popleft()
        if self._credit * 2 <= self._limit:
            self._renewed()
        return item

    cdef int _renewed(self) except -1:
        """Let in as many as there is room for, once half of them can come."""
        cdef unsigned int waiting = len(self)
        if self._end is not None or waiting * 2 > self._limit:
            return 0
        self._credit = self._limit - waiting
        try:
            self._renew(after=self._credit)
        except ConnectionClosed:
            pass  # it has ended, and `end` will say so; what waits is there still
        return 0

    cdef int _wait(self) except -1:
        self._more = None  # an empty deque takes 600 bytes
        self._waiting = self._asyncio_future_blocking = True
        self._awake = False
        self._run = None
        return 0

    cdef int _wake(self) except -1:
        """Let the task that waits run, in place where no other one does."""
        callback, context = self._callback, self._context
        cdef Run run = self._run
        if callback is None or context is None or (
                run is None and current_task(self.loop) is not None):
            return self._wake_later()
        # Another coroutine may wait here when this one has run: it brings a wake-up of its own.
        self._callback = self._context = None
        self._awake = True
        PyContext_Enter(context)
        try:
            if run is None:
                callback(self)
                return 0
            try:
                _enter_task(self.loop, run._task)
            except RuntimeError:  # another one is being executed
                self.loop.call_soon(callback, self, context=context)
                return 0
            if run._advance():
                self._callback, self._context = callback, context
            else:
                callback(self)
        finally:
            PyContext_Exit(context)
        return 0

    cdef int _wake_later(self) except -1:
        """Ask the loop to let the task run; after the loop's end nobody does."""
        callback, context = self._callback, self._context
        self._callback = self._context = None
        self._awake = True
        if callback is not None and not self.loop.is_closed():
            self.loop.call_soon(callback, self, context=context)
        return 0

    # What asyncio.Task asks of a future.

    def get_loop(self):
        """Return the loop."""
        return self.loop

    def add_done_callback(self, callback, *, context=None):
        """Take the wake-up of the task that waits."""
        if self._awake:  # what a coroutine waits for that was begun outside of its task
            self.loop.call_soon(callback, self, context=context)
        else:
            self._callback, self._context = callback, context

    def cancel(self, msg=None):
        """Wake the task that waits with CancelledError; nothing that was put is lost.

        Another coroutine may wait before that task runs, so what it is told is its own.
        """
        if self._advancing or not self._waiting or self._awake:
            self._refused = True  # the task sees to it when it runs next: see Run
            return False
        self._awake = True
        callback, context = self._callback, self._context
        self._callback = self._context = None
        if callback is not None:
            self.loop.call_soon(callback, Cancelled.__new__(Cancelled, msg), context=context)
        return True

    def result(self):
        """Return None: what was put is taken by the task that was woken."""


@cython.final
cdef class Cancelled:
    """What a task is woken with whose wait was cancelled."""

    cdef object _message

    def __cinit__(self, message):
        self._message = message

    def result(self):
        """Raise CancelledError."""
        raise CancelledError() if self._message is None else CancelledError(self._message)


@cython.final
cdef class Receive:
    """The receiving end of an Inbox: `await` gives the next item, `async for` each.

    `await` raises what is behind the items; `async for` ends where that is a ConnectionClosedOK.
    It is a coroutine as far as `asyncio.create_task` is concerned, though it never ends.
    """

    cdef Inbox _inbox
    cdef bint _iterating

    def __init__(self):
        raise TypeError("it is Inbox.receive")

    def __aiter__(self):
        cdef Receive each = Receive.__new__(Receive)
        each._inbox, each._iterating = self._inbox, True
        return each

    def __anext__(self):
        return self

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def send(self, _):
        return self.__next__()

    def throw(self, kind, value=None, traceback=None):
        self._give_up()
        raise kind if value is None else value

    def close(self):
        self._give_up()

    cdef int _give_up(self) except -1:
        """Wait no more, where no task has taken it for its future."""
        cdef Inbox inbox = self._inbox
        if inbox._waiting and not inbox._awake and inbox._callback is None:
            inbox._waiting = False
        return 0

    def __next__(self):
        cdef Inbox inbox = self._inbox
        if inbox._waiting:
            if not inbox._awake:
                raise RuntimeError("another coroutine waits for the messages of this connection")
            inbox._waiting = False
        if inbox._first is not None:
            item = inbox._take()
            if type(item) is not str and type(item) is not bytes:
                raise StopIteration(item)
            # Without a value this raise only returns NULL, so that no traceback is made.
            PyErr_SetObject(StopIteration, item)
            raise StopIteration
        if inbox._end is not None:
            if self._iterating and isinstance(inbox._end, ConnectionClosedOK):
                raise StopAsyncIteration
            raise _like(inbox._end)
        if inbox._credit * 2 <= inbox._limit:
            inbox._renewed()
        inbox._wait()
        return inbox


cdef object _like(error):
    """Another exception like this one: each raise has a traceback of its own."""
    another = type(error).__new__(type(error), *error.args)
    another.__dict__.update(error.__dict__)
    another.args = error.args
    return another


@cython.final
cdef class Run:
    """Runs a coroutine that receives from an Inbox: `await Run(inbox, coroutine)` is its result.

    Between the task and the coroutine, so that the coroutine can be continued without the task.
    What it then waits for, and its end, are kept here until the task, which is woken, asks.
    """

    cdef Inbox _inbox
    cdef object _coroutine
    cdef object _task  # None: begun outside of one, as a task factory may; then it costs more
    cdef object _waits_for  # a future, or None as of `sleep(0)`: what the task is to be told
    cdef object _result, _error
    cdef bint _stepped  # the task has not been told of the last step
    cdef bint _ended

    def __cinit__(self, Inbox inbox not None, coroutine not None):
        self._inbox = inbox
        self._coroutine = coroutine

    def __await__(self):
        self._task = current_task()
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if not self._stepped:
            self._step()
        self._stepped = False
        if self._ended:
            return self._end()
        waits_for, self._waits_for = self._waits_for, None
        return self._told(waits_for)

    cdef object _told(self, waits_for):
        """What the task waits for from now on."""
        if waits_for is self._inbox:
            self._inbox._awake = False
            self._inbox._run = None if self._task is None else self
        return waits_for

    def throw(self, kind, value=None, traceback=None):
        """Raise an exception where the coroutine waits."""
        error = kind if value is None else value
        stepped, self._stepped = self._stepped, False
        if self._ended:
            if self._error is None:
                raise error
            return self._end()
        waits_for, self._waits_for = self._waits_for, None
        if stepped and waits_for is not None and waits_for is not self._inbox:
            waits_for.cancel()  # nobody will wait for it
        return self._told(self._coroutine.throw(error))

    def close(self):
        """End the coroutine."""
        self._coroutine.close()

    cdef object _end(self):
        """Say how the coroutine has ended."""
        error, self._error = self._error, None
        self._inbox._run = None
        if error is not None:
            raise error
        raise StopIteration(self._result)

    cdef int _step(self) except -1:
        """Continue the coroutine, and keep what comes of it."""
        cdef PyObject *result = NULL
        self._stepped = True
        try:
            if PyIter_Send(self._coroutine, None, &result) == PYGEN_RETURN:
                self._ended, self._result = True, <object>result
            else:
                self._waits_for = <object>result
            Py_DECREF(<object>result)
        except BaseException as error:
            self._ended, self._error = True, error
        return 0

    cdef bint _advance(self) except -1:
        """Continue the coroutine in its task, which was entered, and leave the task.

        Returns:
            Whether it waits for the Inbox again.
        """
        cdef Inbox inbox = self._inbox
        inbox._refused = False
        inbox._advancing = True
        try:
            self._step()
        finally:
            inbox._advancing = False
            _leave_task(inbox.loop, self._task)
        if self._ended or self._waits_for is not inbox:
            if inbox._refused and inbox._callback is not None:
                inbox._wake_later()  # another coroutine waits now, and may be the cancelled one
            return False
        if inbox._refused:  # the task was cancelled meanwhile
            return False
        self._stepped = False
        self._waits_for = None
        inbox._run = self
        inbox._asyncio_future_blocking = False  # as the task has left it
        return True
