// `ws` as the server that this project replaces had it: setInterval, and JSON.stringify and send
// for each client.
import { options, paddingOf, ringSize, serve, tick } from "./common.mjs";

const EVERY = 1; // ms
const load = options();
const padding = paddingOf(load.size);
const ring = ringSize(load.size);
let index = 0;
const state = serve(load, () => {}, () => {});

if (!load.echo)
  setInterval(() => {
    if (state.clients.size < load.clients) return;
    while (state.credit >= load.burst) {
      state.credit -= load.burst;
      for (let i = 0; i < load.burst; i++) {
        for (const client of state.clients) client.send(JSON.stringify(tick(index, padding)));
        index = (index + 1) % ring;
      }
    }
  }, EVERY);
