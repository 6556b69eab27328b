"""A child that a process with a live server forks: whatever it does, the parent serves on."""

import asyncio
import multiprocessing
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from handler_apps import serving, websocket
from support import SWITCHED, TEXT, UPGRADE, Rig, client_frame, open_files, take_frames
from surroundings import UNDER

from fastws import App, Connection, Server

Run = Callable[[Any], Any]

ROOT = Path(__file__).resolve().parent.parent

# Forks in the handler that is named by argv[2], and ends the child as argv[3] says.
PROGRAM = """
import asyncio, gc, multiprocessing, os, sys, threading
import uvloop
from fastws import App, Connection, Server

loop, where, way = sys.argv[1:]

def work():
    SERVER.pop().close()

def child():
    if way == "exit":
        sys.exit(0)
    if way == "close":
        SERVER.pop().close()
    if way == "collect":
        SERVER.clear()
        gc.collect()
    if way == "publish":
        try:
            SERVER[0].topic("news").publish("from the child")
        except RuntimeError:
            os._exit(0)
        os._exit(7)
    os._exit(0)

def fork():
    if way == "multiprocessing":
        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        process.join()
        return process.exitcode
    pid = os.fork()
    if pid == 0:
        child()
    return os.waitpid(pid, 0)[1]

class Forking(App):
    def opened(self, connection, request):
        if request.path == "/asks":
            connection.subscribe(SERVER[0].topic("asks"))
            connection.context = True
        connection.subscribe(SERVER[0].topic("news"))

    def message(self, connection, message):
        if message == "fork" and where == "message":
            connection.send_nowait(f"forked {fork()}")
        elif message == "fork":
            asks = SERVER[0].topic("asks")
            asks.on_last_subscriber = lambda topic: connection.send_nowait(f"forked {fork()}")
            connection.unsubscribe(asks)
        elif message == "elsewhere":
            threading.Thread(target=SERVER[0].topic("news").publish, args=["elsewhere"]).start()
        else:
            connection.send_nowait(message)

if where == "async":
    sync = Forking.message
    async def message(self, connection, message):
        if message == "fork":
            connection.send_nowait(f"forked {fork()}")
        else:
            sync(self, connection, message)
    Forking.message = message

SERVER = []

async def main():
    SERVER.append(Server(Forking()))
    ((host, port),) = SERVER[0].listen("127.0.0.1", 0)
    SERVER[0].start()
    print(port, flush=True)
    await asyncio.Event().wait()

new_loop = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
with asyncio.Runner(loop_factory=new_loop) as runner:
    runner.run(main())
"""


class Talker:
    """A WebSocket client in blocking calls."""

    def __init__(self, port: int, path: str = "/") -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.buffer = bytearray()
        self.sock.sendall(UPGRADE.replace(b"GET / ", f"GET {path} ".encode()))
        while len(self.buffer) < len(SWITCHED):
            self.more()
        assert self.buffer[: len(SWITCHED)] == SWITCHED
        del self.buffer[: len(SWITCHED)]

    def more(self) -> None:
        data = self.sock.recv(1 << 16)
        assert data, "the server ended the connection"
        self.buffer += data

    def say(self, text: str) -> None:
        self.sock.sendall(client_frame(TEXT, text.encode()))

    def hear(self) -> str:
        while not (frames := take_frames(self.buffer)):
            self.more()
        ((opcode, payload),) = frames
        assert opcode == TEXT
        return payload.decode()


@pytest.mark.hostile("X67")
@pytest.mark.parametrize("way", ["_exit", "exit", "close", "collect", "publish", "multiprocessing"])
@pytest.mark.parametrize("where", ["message", "topic", "async"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_child_ends_in_any_way_and_the_parent_serves_on(loop: str, where: str, way: str) -> None:
    if (loop, way) == ("uvloop", "exit"):
        pytest.skip("closing its copy of the loop, uvloop deafens the parent's loop itself")
    command = [*UNDER, sys.executable, "-W", "ignore", "-c", PROGRAM, loop, where, way]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        talkers: list[Talker] = []
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            talkers += [Talker(port), Talker(port, "/asks")]
            bystander, asker = talkers
            asker.say("fork")
            assert asker.hear() == "forked 0"
            talkers.append(Talker(port))  # the port is still watched
            for talker in talkers:
                talker.say("on")
                assert talker.hear() == "on"
            bystander.say("elsewhere")  # and so is what wakes the engine
            for talker in talkers:
                assert talker.hear() == "elsewhere"
            bystander.sock.close()
            asker.say("still")
            assert asker.hear() == "still"
        finally:
            process.kill()
            for talker in talkers:
                talker.sock.close()


def in_child(work: Callable[[], object]) -> None:
    """Do it in a child of this process, which ends without the tests' own teardown."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            os.write(writing, traceback.format_exc()[-4000:].encode())
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading) as said:
        told = said.read()
    assert os.waitpid(child, 0)[1] == 0, told


@pytest.mark.hostile("X67")
def test_an_engine_is_of_no_use_in_a_child_and_says_so() -> None:
    with Rig() as rig:
        engine, topic = rig.engine, rig.engine.topic("t", on_slow="latest")
        connection, peer = rig.subscribed(topic)
        subscription = connection.subscribe(topic)
        calls: list[Callable[[], object]] = [
            engine.turn, engine.flush, engine.fileno, engine.counters, engine.account,
            engine.all_connections, lambda: engine.listen(0), lambda: engine.topic("new"),
            lambda: topic.publish("x"), topic.account, topic.close, topic.configure,
            lambda: connection.send_nowait("x"), connection.close, connection.abort,
            connection.account,
            connection.pause_reading, lambda: connection.subscribe(topic),
            subscription.unsubscribe, subscription.account,
        ]  # fmt: skip

        def work() -> None:
            files = open_files()
            assert engine.inherited
            for call in calls:
                with pytest.raises(RuntimeError, match="forked"):
                    call()
            remote = connection.remote_address
            engine.close()
            engine.close()
            assert not engine.inherited
            assert open_files() == files - 5  # epoll, timer, wake-up, reserve and the connection
            assert not rig.closed  # nothing has ended
            assert (connection.is_open, connection.remote_address) == (False, remote)
            with pytest.raises(RuntimeError, match="closed"):
                engine.counters()

        in_child(work)
        assert not engine.inherited
        topic.publish("here")
        rig.until(lambda: peer.pull().payloads == [b"here"])
        _, newcomer = rig.connect()
        assert not newcomer.pull().ended


@pytest.mark.hostile("X67")
@pytest.mark.parametrize("outcome", ["returns", "raises", "closes"])
def test_a_turn_in_which_a_handler_forked_ends_there_in_the_child(outcome: str) -> None:
    with Rig() as rig:
        parent, heard = os.getpid(), list[str | bytes]()
        reading, writing = os.pipe()

        def handler(connection: Connection, message: str | bytes) -> None:
            heard.append(message)
            connection.send_nowait(f"heard {message!s}")
            if len(heard) > 1 or os.fork() != 0:
                return
            if outcome == "raises":
                raise ZeroDivisionError
            if outcome == "closes":
                rig.engine.close()

        rig.engine.on_message = handler
        peers = [rig.connect()[1] for _ in range(2)]
        for peer in peers:
            peer.send(client_frame(TEXT, b"a") + client_frame(TEXT, b"b"))
        ended = "nothing"
        while len(heard) < 4 and os.getpid() == parent:
            try:
                rig.engine.turn(0.01)
            except BaseException as error:  # in the child only
                ended = type(error).__name__
        if os.getpid() != parent:
            os.write(writing, f"{ended} {len(heard)}".encode())
            os._exit(0)
        os.close(writing)
        os.wait()
        with open(reading) as said:
            told = said.read()
        raised = {"returns": "RuntimeError", "raises": "ZeroDivisionError", "closes": "nothing"}
        assert told == f"{raised[outcome]} 1"
        for peer in peers:
            rig.until(lambda peer=peer: len(peer.pull().payloads) == 2)
            assert peer.payloads == [b"heard a", b"heard b"]
        assert not rig.errors


@pytest.mark.hostile("X67")
def test_a_server_in_a_child_says_what_to_do_and_close_leaves_the_parents(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "s"

    def work(server: Server) -> None:
        files = open_files()
        for call in (server.start, lambda: server.listen("127.0.0.1", 0)):
            with pytest.raises(RuntimeError, match="forked"):
                call()
        stopping = server.stop()
        with pytest.raises(RuntimeError, match="forked"):
            stopping.send(None)
        server.close()
        server.close()
        assert open_files() < files
        assert path.is_socket()

    async def story() -> None:
        server = Server(App())
        server.listen_unix(str(path))
        server.start()
        await asyncio.sleep(0)
        in_child(lambda: work(server))
        _, writer = await asyncio.open_unix_connection(path)
        writer.close()
        await writer.wait_closed()
        await server.stop()
        assert not path.exists()

    run(story())


@pytest.mark.hostile("X67")
def test_a_child_may_serve_with_a_server_of_its_own(run: Run) -> None:
    class Echo(App):
        def message(self, connection: Connection, message: str | bytes) -> None:
            connection.send_nowait(message)

    async def serve() -> None:
        async with serving(Echo()) as (_, address), await websocket(address) as client:
            await client.send(client_frame(TEXT, b"x"))
            assert await client.frame() == (TEXT, b"x")

    async def story() -> None:
        async with serving(App()) as (_, address), await websocket(address):
            work = lambda: asyncio.run(serve())  # noqa: E731  # the coroutine is the child's
            process = multiprocessing.get_context("fork").Process(target=work)
            process.start()
            await asyncio.to_thread(process.join)
            assert process.exitcode == 0
            async with await websocket(address):
                pass

    run(story())
