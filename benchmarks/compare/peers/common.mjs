// What the two servers of `ws` share: their options (those of common.py) and the messages.
import { createRequire } from "node:module";
import { parseArgs } from "node:util";

const require = createRequire(new URL("../../clients/node/package.json", import.meta.url));
export const { WebSocketServer } = require("ws");

const LONGEST = 3600; // seconds, after which a forgotten server ends
const QUIET = "/quiet"; // who asks for it is not subscribed, and gets its own messages back
const DIGITS = 10;
const RING_BYTES = 1 << 20;
const RING_MAX = 4096;

export function options() {
  const string = { type: "string" };
  const flag = { type: "boolean", default: false };
  const { values } = parseArgs({
    options: {
      port: string,
      clients: string,
      size: string,
      burst: string,
      topics: string,
      free: flag,
      echo: flag,
    },
  });
  setTimeout(() => process.exit(1), LONGEST * 1000).unref();
  const number = (name, otherwise) => Number(values[name] ?? otherwise);
  return {
    port: number("port"),
    clients: number("clients"),
    size: number("size", 110),
    burst: number("burst", 1),
    topics: number("topics", 1),
    echo: values.echo,
  };
}

// The message of that number as an object: JSON.stringify makes messages.py's text of it.
export function tick(index, padding) {
  return { id: String(index).padStart(DIGITS, "0"), pad: padding };
}

export function paddingOf(size) {
  return ".".repeat(size - JSON.stringify(tick(0, "")).length);
}

export function ringSize(size) {
  const frame = size + (size < 126 ? 2 : size < 65536 ? 4 : 10);
  let ring = RING_MAX;
  while (ring * frame > RING_BYTES) ring /= 2;
  return ring;
}

// Opens the server: `permitted` is called when the credit has grown and all clients are there.
export function serve(load, connected, permitted) {
  const rooms = Array.from({ length: load.topics }, () => new Set());
  const state = { credit: 0, clients: rooms[0], rooms, published: 0 };
  const look = () => {
    if (state.clients.size === load.clients && state.credit >= load.burst) permitted(state);
  };
  const server = new WebSocketServer({
    host: "127.0.0.1",
    port: load.port,
    perMessageDeflate: false,
    backlog: 1024,
  });
  server.on("connection", (client, request) => {
    connected(client, request);
    const echo = load.echo || request.url === QUIET;
    client.on("error", () => {});
    client.on("message", (data, isBinary) => {
      if (echo) client.send(data, { binary: isBinary });
      else {
        state.credit += Number(data.toString().slice(3));
        look();
      }
    });
    if (echo) return;
    for (const room of rooms) room.add(client);
    look();
  });
  return state;
}
