// `ws` as well as it goes: messages serialised once, setImmediate, setNoDelay; a burst is corked.
import { options, paddingOf, ringSize, serve, tick } from "./common.mjs";

const load = options();
const padding = paddingOf(load.size);
const messages = Array.from({ length: ringSize(load.size) }, (_, i) =>
  Buffer.from(JSON.stringify(tick(i, padding))),
);
const text = { binary: false };
let running = false;

function step(state) {
  running = false;
  if (state.credit < load.burst) return;
  state.credit -= load.burst;
  if (load.burst > 1) for (const client of state.clients) client._socket.cork();
  for (let i = 0; i < load.burst; i++) {
    const number = state.published++;
    const message = messages[number % messages.length];
    for (const client of state.rooms[number % load.topics]) client.send(message, text);
  }
  if (load.burst > 1) for (const client of state.clients) client._socket.uncork();
  start(state);
}

function start(state) {
  if (running) return;
  running = true;
  setImmediate(step, state);
}

serve(load, (_, request) => request.socket.setNoDelay(true), start);
