"""Plain topics: who may subscribe, in each of its forms, and a client that comes back."""

from collections.abc import AsyncIterator

from fastws import (
    App,
    Connection,
    ConnectionClosed,
    Gap,
    Lag,
    Request,
    Response,
    SubscriptionLimit,
    connect,
)


def at_once(request: Request, topic: str) -> bool:
    return topic in request.query_all("allowed")


async def later(request: Request, topic: str) -> bool | None:
    return None if topic == "news" else at_once(request, topic)


def with_headers(request: Request, topic: str) -> Response | None:
    return Response(101, headers=[("X-Seat", topic)])


def app() -> App:
    made = App()
    made.plain_topics()
    made.plain_topics(at_once, prefix="/a/", query=["allowed"], lossless=True)
    made.plain_topics(later, prefix="/b/", name_pattern="[a-z]+", max_lag=Lag(seconds=1))
    made.plain_topics(with_headers, prefix="/c/")
    made.plain_topics(lambda request, topic: topic != "secret", prefix="/d/")
    return made


async def handler(ws: Connection) -> None:
    try:
        ws.subscribe("news")
    except SubscriptionLimit as error:
        await ws.close(1008, str(error))


async def follow(url: str) -> tuple[str, int] | None:
    position: tuple[str, int] | None = None
    async for ws in connect(url, gaps=True):
        if ws.recovered is False:
            return position
        messages: AsyncIterator[str | bytes | Gap] = aiter(ws)  # with gaps=True there are such, too
        try:
            async for message in messages:
                if isinstance(message, Gap):
                    print(message.first, message.last, message.reason)
                else:
                    print(len(message))
                position = ws.position
        except ConnectionClosed:
            continue
    return None
