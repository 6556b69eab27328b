"""A chat with rooms: each message goes to everybody in the room but its speaker.

The path is the room. Open http://127.0.0.1:8080/kitchen in two windows, or connect two clients to
ws://127.0.0.1:8080/kitchen?name=Ann. A room is a topic, which is freed with its last subscriber.
"""

import sys

import fastws

PAGE = """<!doctype html><meta charset="utf-8"><title>chat</title>
<form><input autofocus placeholder="say something"></form><pre></pre><script>
const ws = new WebSocket(location.href.replace("http", "ws"));
const show = text => document.querySelector("pre").append(text + "\\n");
ws.onmessage = event => show(event.data);
ws.onclose = event => show("closed: " + event.code);
document.querySelector("form").onsubmit = event => {
  const input = document.querySelector("input");
  ws.send(input.value);
  show("me: " + input.value);
  input.value = "";
  event.preventDefault();
};
</script>"""
app = fastws.App()


@app.get("/{room}")
def page(request: fastws.Request, room: str) -> fastws.Response:
    """Answer a browser."""
    return fastws.Response(200, PAGE, content_type="text/html; charset=utf-8")


@app.websocket("/{room}")
async def talk(ws: fastws.Connection, room: str) -> None:
    """Pass on what one client says."""
    name = ws.request.query.get("name", "somebody")
    topic = ws.engine.topic("room/" + room)  # as a name, one that ends in * would be a pattern
    ws.subscribe(topic)
    async for message in ws:
        if isinstance(message, bytes):
            await ws.close(1003, "text only")
            return
        topic.publish(f"{name}: {message}", exclude=ws)


async def main(port: int = 8080) -> None:
    """Serve until Ctrl-C."""
    async with fastws.serve(app, "127.0.0.1", port) as server:
        print(f"listening on ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    fastws.run(main(*map(int, sys.argv[1:])))
