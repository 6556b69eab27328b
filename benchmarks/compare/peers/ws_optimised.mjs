// `ws` as well as it goes: messages serialised once, setImmediate, setNoDelay; a burst is corked.
import { options, paddingOf, ringSize, serve, tick } from "./common.mjs";

const load = options();
const padding = paddingOf(load.size);
const messages = Array.from({ length: ringSize(load.size) }, (_, i) =>
  Buffer.from(JSON.stringify(tick(i, padding))),
);
const text = { binary: false };
let index = 0;
let running = false;

function step(state) {
  running = false;
  if (state.credit < load.burst) return;
  state.credit -= load.burst;
  for (const client of state.clients) {
    if (load.burst > 1) client._socket.cork();
    for (let i = 0; i < load.burst; i++) client.send(messages[(index + i) % messages.length], text);
    if (load.burst > 1) client._socket.uncork();
  }
  index = (index + load.burst) % messages.length;
  start(state);
}

function start(state) {
  if (running) return;
  running = true;
  setImmediate(step, state);
}

serve(load, (_, request) => request.socket.setNoDelay(true), start);
