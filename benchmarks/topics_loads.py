"""What the server of `topics.py` does for the sections memory, retained and users.

The commands of the control connection; `app` is the Bench of `topics_server.py`.
"""

import asyncio
import ctypes
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from topics_wire import Json, sender, thread_ns

PAGE = os.sysconf("SC_PAGE_SIZE")
BATCH = 100  # topics that are there at a time in `cycles`
PARTS = ("published", "delivered", "conflated", "dropped", "pending", "subscribers")


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def resident(app: Any) -> Json:
    """Return the resident memory without what Python and the allocator only keep."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return {"bytes": resident_bytes()}


# Memory.


def name_topics(app: Any, topics: int) -> Json:
    """Make topics of one subscription each, over all clients, and hold them."""
    app.topics = [app.engine.topic(f"user/{i:06d}") for i in range(topics)]
    for i, topic in enumerate(app.topics):
        app.clients[i % len(app.clients)].subscribe(topic)
    return {}


def recall(app: Any, topics: int) -> Json:
    """Hold the topics again."""
    app.topics = [app.engine.topic(f"user/{i:06d}") for i in range(topics)]
    return {}


def forget(app: Any) -> Json:
    """Drop the references to the topics."""
    app.topics = []
    return {}


def publish_some(app: Any, first: int, count: int) -> None:
    """Publish one message to each of some topics."""
    for topic in app.topics[first : first + count]:
        topic.publish(app.messages.next())


async def unsubscribe(app: Any) -> Json:
    """End the subscriptions of `name_topics` and drop the references."""
    for i, topic in enumerate(app.topics):
        app.clients[i % len(app.clients)].unsubscribe(topic)
    del topic
    app.topics = []
    await asyncio.sleep(0.1)  # seconds: some turns of the engine
    return {}


async def cycles(app: Any, first: int, count: int, limit: int) -> Json:
    """Make, subscribe to, publish to, unsubscribe from and drop that many topics.

    It stops early when the process has more than `limit` bytes.
    """
    clients, began, start = app.clients, thread_ns(), first
    for start in range(first, first + count, BATCH):
        if resident_bytes() > limit:
            break
        made = []
        for i in range(start, min(start + BATCH, first + count)):
            client, topic = clients[i % len(clients)], app.engine.topic(f"cycle/{i:09d}")
            client.subscribe(topic)
            topic.publish(app.messages.next())
            made.append((client, topic))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # the flush was scheduled ahead of this
        for client, topic in made:
            client.unsubscribe(topic)
        del topic
    else:
        start = first + count
    return {"cpu_ns": thread_ns() - began, "done": start - first}


# Retained.


def retain(app: Any, topics: int, policies: list[str], subscribed: bool) -> Json:
    """Make topics with these policies in turn; the n-th has the client n as its subscriber."""
    app.policies = [policies[i % len(policies)] for i in range(topics)]
    app.topics = [
        app.engine.topic(f"retained/{i:06d}", on_slow=app.policies[i]) for i in range(topics)
    ]
    if subscribed:
        for i, topic in enumerate(app.topics):
            app.clients[i % len(app.clients)].subscribe(topic)
    return {}


def subscribe_all(app: Any) -> Json:
    """Subscribe every client to every topic."""
    for client in app.clients:
        for topic in app.topics:
            client.subscribe(topic)
    return {}


def sweep(app: Any, size: int) -> Json:
    """Publish one message of `size` bytes to each topic; a lossless one may refuse it."""
    from fastws import LogFull

    message, refused = bytes(size), 0
    for topic in app.topics:
        try:
            topic.publish(message)
        except LogFull:
            refused += 1
    return {"bytes": resident_bytes(), "refused": refused}


def accounts(app: Any) -> Json:
    """Return the sums of the topics' accounts by policy, and how many do not balance."""
    found: Json = {}
    for policy, topic in zip(app.policies, app.topics, strict=True):
        account = topic.account()
        parts = {
            name: account[name] if isinstance(account, dict) else getattr(account, name)
            for name in PARTS
        }
        settled = parts["delivered"] + parts["conflated"] + parts["dropped"] + parts["pending"]
        sums = found.setdefault(
            policy, dict.fromkeys(("topics", "unbalanced", "lapped", *PARTS), 0)
        )
        sums["topics"] += 1
        sums["unbalanced"] += parts["published"] != settled
        # What a subscriber that is still there has not got, and never will.
        sums["lapped"] += (parts["conflated"] + parts["dropped"]) * (parts["subscribers"] > 0)
        for name in PARTS:
            sums[name] += parts[name]
    return found


# Users.


def populate(app: Any, kind: str, topics: int) -> Json:
    """Subscribe the clients: see `run_users`."""
    clients = app.clients
    if kind == "send":
        return {}
    app.topics = [app.engine.topic(f"user/{i:06d}") for i in range(topics)]
    if kind == "one topic":
        for client in clients:
            client.subscribe(app.topics[0])
        return {}
    for i, topic in enumerate(app.topics):
        clients[i % len(clients)].subscribe(topic)
    return {}


def prepare(app: Any, count: int) -> Json:
    """Make the messages of `burst`."""
    app.made = [app.messages.next() for _ in range(count)]
    return {}


def burst(app: Any, kind: str) -> Json:
    """Publish the prepared messages to the topics in turn, or send them to the clients."""
    put: list[Callable[[bytes], object]] = [
        sender(each) if kind == "send" else each.publish
        for each in (app.clients if kind == "send" else app.topics)
    ]
    targets, began_at, began = len(put), time.monotonic_ns(), thread_ns()
    for i, message in enumerate(app.made):
        put[i % targets](message)
    return {"began_at": began_at, "cpu_ns": thread_ns() - began}


LOADS: dict[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (
        resident,
        name_topics,
        recall,
        forget,
        publish_some,
        unsubscribe,
        cycles,
        retain,
        subscribe_all,
        sweep,
        accounts,
        populate,
        prepare,
        burst,
    )
}
