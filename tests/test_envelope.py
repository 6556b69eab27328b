"""What subscribers with an envelope, or a batch, get of a topic."""

import json
import random
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from support import Peer, Rig, balances
from websockets.asyncio.client import connect

from fastws import App, Connection, History, Lag, Server, Topic
from fastws._frame import deflate_available

Run = Callable[[Coroutine[Any, Any, Any]], Any]

KIB = 1024
TEXT, BINARY = 1, 2


def frames(rig: Rig, peer: Peer, n: int) -> list[tuple[int, bytes]]:
    """The next n frames: opcode and payload."""
    got: list[tuple[int, bytes]] = []
    while len(got) < n:
        rig.until(lambda: peer.frames or (peer.read() and peer.frames))
        got.append(peer.frames.pop(0))
    return got


def texts(rig: Rig, peer: Peer, n: int) -> list[str]:
    got = frames(rig, peer, n)
    assert {opcode for opcode, _ in got} == {TEXT}
    return [payload.decode() for _, payload in got]


def first_message(topic: Topic, seq: int, **more: bool) -> str:
    return json.dumps({"epoch": topic.epoch, "seq": seq} | more, separators=(",", ":"))


# Golden bytes.


@pytest.mark.parametrize(
    ("content", "data", "key", "said"),
    [
        ("text", "plain", None, '{"seq":0,"data":"plain"}'),
        ("text", 'a "b"\\\n\x01é\x7f', None, '{"seq":0,"data":"a \\"b\\"\\\\\\n\\u0001é\x7f"}'),
        ("text", "", None, '{"seq":0,"data":""}'),
        ("text", '{"a":1}', "BTC", '{"seq":0,"key":"BTC","data":"{\\"a\\":1}"}'),
        ("json", '{"a":1}', "BTC", '{"seq":0,"key":"BTC","data":{"a":1}}'),
        ("json", "[1, 2]", 'k"é\t', '{"seq":0,"key":"k\\"é\\t","data":[1, 2]}'),
        ("json", "", None, '{"seq":0,"data":null}'),
        ("json", b"\x00\xff", "BTC", b"\0\0\0\0\0\0\0\0\x00\xff"),
        ("text", b"\x00\xff", None, b"\0\0\0\0\0\0\0\0\x00\xff"),
        ("binary", "text", None, b"\0\0\0\0\0\0\0\0text"),
        ("binary", b"", None, b"\0\0\0\0\0\0\0\0"),
    ],
)
def test_golden_bytes_of_an_envelope(
    rig: Rig, content: Any, data: str | bytes, key: str | None, said: str | bytes
) -> None:
    topic = rig.engine.topic("t", content=content)
    connection, peer = rig.connect()
    connection.subscribe(topic, envelope=True)
    topic.publish(data, key=key)
    opcode = TEXT if isinstance(said, str) else BINARY
    payload = said.encode() if isinstance(said, str) else said
    begin, got = frames(rig, peer, 2)
    assert begin == (TEXT, first_message(topic, -1).encode())
    assert got == (opcode, payload)


@pytest.mark.parametrize(
    ("content", "envelope", "messages", "said"),
    [
        ("text", False, ["a", 'b"'], '["a","b\\""]'),
        ("json", False, ['{"a":1}', "2"], '[{"a":1},2]'),
        ("json", True, ['{"a":1}', "2"], '[{"seq":0,"data":{"a":1}},{"seq":1,"data":2}]'),
        ("text", True, ["a"], '[{"seq":0,"data":"a"}]'),
        ("binary", False, [b"ab", b""], b"\2\0\0\0ab\0\0\0\0"),
        ("json", True, [b"ab"], b"\x0a\0\0\0" + bytes(8) + b"ab"),
    ],
)
def test_golden_bytes_of_a_batch(
    rig: Rig, content: Any, envelope: bool, messages: list[Any], said: str | bytes
) -> None:
    topic = rig.engine.topic("t", content=content)
    connection, peer = rig.connect()
    subscription = connection.subscribe(topic, envelope=envelope, batch=10)
    assert (subscription.envelope, subscription.batch) == (envelope, 10)
    topic.publish_all(messages)
    if envelope:
        frames(rig, peer, 1)
    opcode = TEXT if isinstance(said, str) else BINARY
    payload = said.encode() if isinstance(said, str) else said
    assert frames(rig, peer, 1) == [(opcode, payload)]
    assert topic.account()["delivered"] == len(messages)


def test_any_text_comes_back_from_its_json_string(rig: Rig) -> None:
    randomly = random.Random(3)
    topic = rig.engine.topic("t", history=History(messages=5000))
    characters = [chr(n) for n in range(160)] + list("é€😀\u2028") + list("abcdefgh") * 40
    sent = ["".join(randomly.choices(characters, k=randomly.randrange(80))) for _ in range(3000)]
    topic.publish_all(sent)
    connection, peer = rig.connect()
    connection.subscribe(topic, envelope=True, since=(topic.epoch, -1))
    begin, *got = texts(rig, peer, 3001)
    assert begin == first_message(topic, -1, recovered=True)
    assert [json.loads(text) for text in got] == [
        {"seq": seq, "data": data} for seq, data in enumerate(sent)
    ]


# Where it begins.


def test_the_first_message_stands_exactly_in_front_of_the_first_frame(rig: Rig) -> None:
    topic = rig.engine.topic("t", retain=True, content="json")
    connection, peer = rig.connect()
    topic.publish_all(["0", "1"])
    connection.send_nowait("before")
    connection.subscribe(topic, envelope=True)
    connection.send_nowait("behind")
    topic.publish("2")
    assert texts(rig, peer, 5) == [
        "before",
        first_message(topic, 0),
        '{"seq":1,"data":1}',
        "behind",
        '{"seq":2,"data":2}',
    ]


def test_what_the_messages_say_is_a_position_to_go_on_from(rig: Rig) -> None:
    topic = rig.engine.topic("t", history=History(messages=100), content="json")
    topic.publish_all([f"{n}" for n in range(10)])
    connection, peer = rig.connect()
    subscription = connection.subscribe(topic, envelope=True, since=(topic.epoch, 4))
    assert subscription.seq == 4
    begin, *got = texts(rig, peer, 6)
    assert begin == first_message(topic, 4, recovered=True)
    assert [json.loads(text)["seq"] for text in got] == [5, 6, 7, 8, 9]
    assert subscription.seq == 9
    late, second = rig.connect()
    late.subscribe(topic, envelope=True, since=("gone", 4))
    assert texts(rig, second, 1) == [first_message(topic, 9, recovered=False)]


def test_readers_of_all_kinds_get_the_same_messages(rig: Rig) -> None:
    topic = rig.engine.topic("t", history=History(messages=100_000), content="json")
    kinds: list[dict[str, Any]] = [{}, {"envelope": True}, {"batch": 7}]
    kinds += [{"envelope": True, "batch": 1024}, {"envelope": True}]
    peers = []
    for n in range(3000):
        topic.publish(f"{n}", key=f"K{n % 3}" if n % 5 else None)
    for number, kind in enumerate(kinds):
        connection, peer = rig.connect()
        connection.subscribe(topic, since=(topic.epoch, number * 500 - 1), **kind)
        peers.append(peer)
    for n in range(3000, 4000):
        topic.publish(f"{n}", key=f"K{n % 3}" if n % 5 else None)
    for number, (kind, peer) in enumerate(zip(kinds, peers, strict=True)):
        got: list[Any] = []
        while len(got) < 4000 - number * 500:
            (text,) = texts(rig, peer, 1)
            said = json.loads(text)
            got += [] if "epoch" in text else said if "batch" in kind else [said]
        if "envelope" in kind:
            assert {said.get("key") for said in got} == {None, "K0", "K1", "K2"}
            assert all(
                said.get("key") == (f"K{said['seq'] % 3}" if said["seq"] % 5 else None)
                for said in got
            )
            assert [said["seq"] for said in got] == [said["data"] for said in got]
            got = [said["data"] for said in got]
        assert got == list(range(number * 500, 4000))
    assert balances(topic.account())


# Slow readers.


def filled(n: int, size: int = KIB) -> str:
    return json.dumps({"n": n, "filler": "x" * size})


@pytest.mark.parametrize("policy", ["drop_oldest", "latest"])
def test_a_loss_is_told_in_front_of_the_first_message_behind_it(rig: Rig, policy: Any) -> None:
    topic = rig.engine.topic("t", on_slow=policy, max_lag=Lag(bytes=64 * KIB), content="json")
    connection, peer = rig.connect(receive_buffer=4 * KIB)
    subscription = connection.subscribe(topic, envelope=True)
    for n in range(3000):
        topic.publish(filled(n))
        if n % 20 == 0:
            rig.engine.turn()
    (begin,) = texts(rig, peer, 1)
    assert begin == first_message(topic, -1)
    due = gaps = 0
    while due < 3000:
        said = json.loads(texts(rig, peer, 1)[0])
        if "gap" in said:
            assert said == {"gap": [due, said["gap"][1]], "reason": "slow"}
            due = said["gap"][1] + 1
            gaps += 1
            continue
        assert said["seq"] == said["data"]["n"] == due
        due += 1
    account = subscription.account()
    assert gaps > 0
    assert account["dropped"] > 1000
    assert balances(account)


@pytest.mark.parametrize("kind", [{"envelope": True}, {"envelope": True, "batch": 16}])
def test_conflation_is_no_loss_and_its_messages_have_their_numbers(rig: Rig, kind: Any) -> None:
    topic = rig.engine.topic("t", on_slow="latest", max_lag=Lag(bytes=64 * KIB), content="json")
    slow = [rig.connect(receive_buffer=4 * KIB) for _ in range(2)]
    for connection, _ in slow:
        connection.subscribe(topic, **kind)
    for n in range(3000):
        topic.publish(filled(n), key="RARE" if n == 50 else f"S{n % 20}")
        if n % 20 == 0:
            rig.engine.turn()
    for _, peer in slow:
        newest: dict[str, int] = {}
        assert texts(rig, peer, 1) == [first_message(topic, -1)]
        due = 0
        while due < 3000:
            (text,) = texts(rig, peer, 1)
            said = json.loads(text)
            for one in said if isinstance(said, list) else [said]:
                assert one["seq"] == one["data"]["n"] >= due
                due = one["seq"] + 1
                newest[one["key"]] = one["seq"]
        assert newest == {"RARE": 50} | {f"S{n % 20}": n for n in range(2980, 3000)}
    account = topic.account()
    assert balances(account)
    assert account["conflated"] > 2000
    assert account["dropped"] == 0


def test_a_half_sent_batch_is_pending_until_it_is_whole(rig: Rig) -> None:
    topic = rig.engine.topic("t", content="json", max_lag=Lag(bytes=10_000_000))
    connection, peer = rig.connect(receive_buffer=4 * KIB)
    subscription = connection.subscribe(topic, batch=500)
    for n in range(8000):
        topic.publish(filled(n, 30))
    due = 0
    while due < 8000:
        rig.engine.turn()
        account = subscription.account()
        assert balances(account)
        for opcode, payload in [*peer.frames]:
            batch = [said["n"] for said in json.loads(payload)]
            assert opcode == TEXT
            assert 1 <= len(batch) <= 500
            assert batch == list(range(due, due + len(batch)))
            due += len(batch)
        peer.frames.clear()
        assert account["delivered"] + account["pending"] == 8000
        peer.read()
    assert topic.account()["delivered"] == 8000


# The rest of the interface.


def test_an_encoding_is_for_a_subscription_that_begins(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, _ = rig.connect()
    for batch in (0, -1, 1025, True, 2.0, "2"):
        with pytest.raises(ValueError, match="batch must be 1 to 1024 messages"):
            connection.subscribe(topic, batch=batch)  # type: ignore[arg-type]
    assert topic.subscribers == 0
    subscription = connection.subscribe(topic, envelope=True)
    assert (subscription.envelope, subscription.batch) == (True, None)
    assert connection.subscribe(topic, on_slow="latest") is subscription
    assert connection.subscribe(topic, envelope=True) is subscription
    assert (subscription.envelope, subscription.on_slow) == (True, "close")
    for other in ({"batch": 5}, {"envelope": True, "batch": 5}):
        with pytest.raises(ValueError, match="this one has begun"):
            connection.subscribe(topic, **other)
    with pytest.raises(ValueError, match="content"):
        rig.engine.topic("u", content="xml")  # type: ignore[arg-type]


def test_another_thread_subscribes_with_an_envelope(rig: Rig) -> None:
    topic = rig.engine.topic("t", content="json")
    connection, peer = rig.connect()
    rig.engine.turn()

    def elsewhere() -> None:
        connection.subscribe(topic, envelope=True, batch=2)
        topic.publish_all(["1", "2", "3"])

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert texts(rig, peer, 3) == [
        first_message(topic, -1),
        '[{"seq":0,"data":1},{"seq":1,"data":2}]',
        '[{"seq":2,"data":3}]',
    ]


# With a client of others.


class Hall(App):
    """Subscribes everybody to one topic, as the path says."""

    topic: Topic

    def opened(self, connection: Connection, request: Any) -> None:
        batch = 50 if "batch" in request.path else None
        connection.subscribe(self.topic, envelope="envelope" in request.path, batch=batch)


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("path", ["/envelope", "/envelope-batch", "/batch"])
def test_websockets_reads_it(run: Run, path: str, deflate: bool) -> None:
    if deflate and not deflate_available():
        pytest.skip("built without zlib")

    async def case() -> None:
        app = Hall()
        server = Server(app, deflate=deflate)
        topic = app.topic = server.topic("news", content="text")
        ((host, port),) = server.listen("127.0.0.1", 0)
        server.start()
        async with connect(f"ws://{host}:{port}{path}") as client:
            if "envelope" in path:
                assert json.loads(await client.recv()) == {"epoch": topic.epoch, "seq": -1}
            for n in range(100):
                topic.publish(f"{n} " + "the quick brown fox " * (n % 20), key=f"é{n}")
            got: list[Any] = []
            while len(got) < 100:
                said = json.loads(await client.recv())
                got += said if "batch" in path else [said]
            if "envelope" in path:
                assert [(one["seq"], one["key"]) for one in got] == [
                    (n, f"é{n}") for n in range(100)
                ]
                got = [one["data"] for one in got]
            assert [int(one.split()[0]) for one in got] == list(range(100))
            compresses = deflate and "batch" not in path
            assert (server.engine.counters()["deflated"] > 0) == compresses
        await server.stop()

    run(case())


def test_golden_bytes_of_sizes(rig: Rig) -> None:
    topic = rig.engine.topic("t", content="binary")
    connection, peer = rig.connect()
    connection.subscribe(topic, batch=3)
    sizes = (0, 1, 125, 126, 16379, 16380, 16381, 65535, 65536)
    for size in sizes:
        topic.publish(bytes(size))
    got = b""
    while len(got) < sum(sizes) + 4 * len(sizes):
        ((opcode, payload),) = frames(rig, peer, 1)
        assert opcode == BINARY
        got += payload
    assert got == b"".join(struct.pack("<I", size) + bytes(size) for size in sizes)
