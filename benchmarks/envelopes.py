"""What envelopes and batches cost: one topic to the same number of clients of each kind, by turns.

    python benchmarks/envelopes.py --clients 100 --rounds 15

Messages are 55 bytes of JSON. All clients are in one process that throws away what it reads, on
another core. Per kind: nanoseconds of the server's thread for a message to all clients, the median
and the spread of its ratio to plain clients in the same round.
"""

import argparse
import multiprocessing
import os
import select
import socket
import statistics
import time

from fastws import Engine, Lag

KINDS: dict[str, dict[str, object]] = {
    "plain": {},
    "envelope": {"envelope": True},
    "envelope, batch of 64": {"envelope": True, "batch": 64},
    "batch of 64": {"batch": 64},
}
MESSAGE = '{"symbol":"BTC","price":50012.345678,"ts":1769951234567}'
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
BURST = 1000  # messages between two flushes
CORES = sorted(os.sched_getaffinity(0))


def drain(address: tuple[str, int], clients: int) -> None:
    """Connect that many clients, and read until they are closed."""
    os.sched_setaffinity(0, {CORES[-1]})
    poll = select.epoll()
    socks = {}
    for _ in range(clients):
        sock = socket.create_connection(address)
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        socks[sock.fileno()] = sock
        poll.register(sock, select.EPOLLIN)
    while socks:
        for fd, _ in poll.poll():
            if not socks[fd].recv(1 << 20):
                poll.unregister(fd)
                socks.pop(fd).close()


def time_kind(kind: str, clients: int, bursts: int) -> float:
    """Return nanoseconds of CPU time of this thread for a message to all clients."""
    opened = []
    engine = Engine()

    def upgrade(connection, _head):  # type: ignore[no-untyped-def]
        engine.upgrade(connection, SWITCHED)
        opened.append(connection)

    engine.on_head = upgrade
    topic = engine.topic("t", content="json", max_lag=Lag(bytes=1 << 27), retention_bytes=1 << 27)
    with socket.create_server(("127.0.0.1", 0), backlog=clients) as listener:
        listener.setblocking(False)
        engine.listen(listener.fileno())
        child = multiprocessing.Process(target=drain, args=(listener.getsockname(), clients))
        child.start()
        while len(opened) < clients:
            engine.turn(0.1)
        for connection in opened:
            connection.subscribe(topic, **KINDS[kind])
        engine.turn()
        spent = 0
        for burst in range(bursts + 5):
            topic.publish_all([MESSAGE] * BURST)
            began = time.thread_time_ns()
            while topic.account()["pending"] > 0:
                engine.turn(0.01)
            if burst >= 5:
                spent += time.thread_time_ns() - began
        engine.close()
    child.join()
    return spent / (bursts * BURST)


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--bursts", type=int, default=20, help="of 1,000 messages, for each kind")
    options = parser.parse_args()
    multiprocessing.set_start_method("fork")
    os.sched_setaffinity(0, {CORES[0]})
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(options.rounds):
        for kind in KINDS:
            times[kind].append(time_kind(kind, options.clients, options.bursts))
    print(f"{options.clients} clients, {options.rounds} rounds; ns for a message to all of them")
    for kind, measured in times.items():
        ratios = sorted(own / plain for own, plain in zip(measured, times["plain"], strict=True))
        print(
            f"{kind:24} {statistics.median(measured):9.0f}   ratio {statistics.median(ratios):.3f} "
            f"({ratios[0]:.3f} to {ratios[-1]:.3f})"
        )


if __name__ == "__main__":
    main()
