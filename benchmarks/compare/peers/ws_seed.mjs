// `ws` as the server that this project replaces had it: setInterval, and JSON.stringify and send
// for each client. It publishes until the next interval is due, then lets the loop go on.
import { options, paddingOf, ringSize, serve, tick } from "./common.mjs";

const EVERY = 1; // ms
const load = options();
const padding = paddingOf(load.size);
const ring = ringSize(load.size);
const state = serve(load, () => {}, () => {});

if (!load.echo)
  setInterval(() => {
    if (state.clients.size < load.clients) return;
    const until = performance.now() + EVERY;
    while (state.credit >= load.burst && performance.now() < until) {
      state.credit -= load.burst;
      for (let i = 0; i < load.burst; i++) {
        const number = state.published++;
        for (const client of state.rooms[number % load.topics])
          client.send(JSON.stringify(tick(number % ring, padding)));
      }
    }
  }, EVERY);
