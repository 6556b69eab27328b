"""An App by its methods: plain ones, async ones, and with a context of its own."""

import asyncio
from dataclasses import dataclass

from fastws import App, Connection, HandshakeError, Request, Response, Server, serve


@dataclass
class User:
    name: str


class Plain(App):
    def admit(self, connection: Connection, request: Request) -> None:
        if request.header("authorization") is None:
            raise HandshakeError(401, "Who?", (("WWW-Authenticate", "Basic"),))
        connection.context = User(request.query.get("name", "nobody"))

    def opened(self, connection: Connection, request: Request) -> None:
        connection.send_nowait("welcome")

    def message(self, connection: Connection, message: str | bytes) -> None:
        user: User = connection.context
        connection.send_nowait(f"{user.name}: {message!r}")

    def closed(self, connection: Connection) -> None:
        if connection.close_code is not None:
            print(connection.close_code + 1, connection.reason)

    def http(self, request: Request) -> Response:
        return Response(404, "Nothing here", {"Cache-Control": "no-store"})

    def refuse(self, error: HandshakeError) -> Response:
        return Response.json({"error": error.body}, error.status)


class Async(App):
    async def admit(self, connection: Connection, request: Request) -> None:
        await asyncio.sleep(0)

    async def opened(self, connection: Connection, request: Request) -> None:
        await connection.send("welcome")

    async def message(self, connection: Connection, message: str | bytes) -> None:
        await connection.send(message)

    async def closed(self, connection: Connection) -> None:
        await asyncio.sleep(0)

    async def http(self, request: Request) -> Response:
        return Response(200, await asyncio.to_thread(str, request.body))


def ask(request: Request) -> Response | None:
    return None if request.path == "/" else Response(403)


async def ask_later(request: Request) -> Response | None:
    return ask(request)


def choose(request: Request, asked: list[str]) -> str | None:
    return asked[0] if asked else None


async def main() -> None:
    async with serve(Plain(), process_request=ask, select_subprotocol=choose) as server:
        print(len(server.connections))
    server = Server(Async(), process_request=ask_later)
    print(server.listen("localhost", 0)[0][1] + 1)
    async with server:
        await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(main())
