// A tick client as they exist in the field: the ws library over one connection.
//
// Counts every data frame as a tick, decodes every n-th, identifies itself when the connection
// opens and reports its statistics once a second. It ends with one line of JSON on stdout;
// everything else it says goes to stderr.

import { parseArgs } from "node:util";
import WebSocket from "ws";

const USAGE = `usage: client.mjs [--url ws://127.0.0.1:8080] [--duration SECONDS] \
[--client-id node-ws] [--decode-every 1000] [--drain] [--json]
  --drain  when the time is up, read on until the server closes
  --json   nothing but the last line, no report a second on stderr`;
const SYMBOLS = ["BTC", "ETH", "SOL", "DOGE", "XRP"];
const BINARY_TICK_BYTES = 20; // u32 symbol, f64 price, i64 ts in ms, little endian
const CLOSE_TIMEOUT_MS = 5000;
const CLOSED_ABNORMALLY = 1006; // RFC 6455 7.4.1: no Close frame came
const STEP_MS = 0.01;
const STEPS = 1_000_000; // ten seconds; what is longer counts there
const LONGEST_SECONDS = 2_147_483; // what setTimeout can wait

function readOptions() {
  const { values } = parseArgs({
    options: {
      url: { type: "string", default: "ws://127.0.0.1:8080" },
      duration: { type: "string", default: "10" },
      "client-id": { type: "string", default: "node-ws" },
      "decode-every": { type: "string", default: "1000" },
      drain: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    },
  });
  const options = {
    ...values,
    duration: Number(values.duration),
    decodeEvery: Number(values["decode-every"]),
    clientId: values["client-id"],
  };
  if (!options.url.startsWith("ws://")) throw new Error(`--url must start with ws://, unlike ${options.url}`);
  if (!(options.duration >= 0 && options.duration <= LONGEST_SECONDS))
    throw new Error(`--duration takes seconds, at most ${LONGEST_SECONDS}, not ${values.duration}`);
  if (!(Number.isInteger(options.decodeEvery) && options.decodeEvery > 0))
    throw new Error(`--decode-every takes a number from 1, not ${values["decode-every"]}`);
  return options;
}

function decode(data, isBinary) {
  if (!isBinary) return JSON.parse(data);
  if (data.length < BINARY_TICK_BYTES) throw new RangeError("a binary tick is too short");
  return {
    symbol: SYMBOLS[data.readUInt32LE(0)],
    price: data.readDoubleLE(4),
    ts: Number(data.readBigInt64LE(12)),
  };
}

const roundMicroseconds = (milliseconds) => Math.round(milliseconds * 1000) / 1000;

// How many latencies there were in each step of STEP_MS: memory does not grow with a run. Those of
// nothing are NaN, which JSON says as null.
class Latencies {
  n = 0;
  #sumMs = 0;
  #counts = new Float64Array(STEPS);
  #most = 0; // the last step that was used

  add(ms) {
    this.n += 1;
    this.#sumMs += ms;
    const step = Math.max(0, Math.min(STEPS - 1, Math.floor(ms / STEP_MS)));
    this.#counts[step] += 1;
    if (step > this.#most) this.#most = step;
  }

  clear() {
    this.#counts.fill(0, 0, this.#most + 1);
    this.n = this.#sumMs = this.#most = 0;
  }

  figures() {
    return {
      avgLatencyMs: roundMicroseconds(this.#sumMs / this.n),
      p99LatencyMs: roundMicroseconds(this.n ? this.#quantile(0.99) * STEP_MS : NaN),
    };
  }

  #quantile(share) {
    let left = Math.ceil(share * this.n);
    return this.#counts.findIndex((count) => (left -= count) <= 0);
  }
}

// Counts and latencies.
class Tally {
  total = 0;
  undecoded = 0;
  lastTick = null;
  #untilDecode;
  #ofSecond = new Latencies();
  #ofRun = new Latencies();
  #reported = { total: 0, at: performance.now() };
  #started = performance.now();
  #rateOfRun = null;

  constructor(decodeEvery) {
    this.decodeEvery = decodeEvery;
    this.#untilDecode = decodeEvery;
  }

  count(data, isBinary) {
    this.total += 1;
    if (--this.#untilDecode > 0) return;
    this.#untilDecode = this.decodeEvery;
    try {
      const tick = decode(data, isBinary);
      const latencyMs = performance.timeOrigin + performance.now() - tick.ts;
      this.#ofSecond.add(latencyMs);
      this.#ofRun.add(latencyMs);
      this.lastTick = tick;
    } catch {
      this.undecoded += 1;
    }
  }

  // From here on the rate of the run stands, whatever is still drained.
  freezeRate() {
    this.#rateOfRun = this.#rate(this.total, this.#started);
  }

  lastSecond(clientId) {
    const { total, at } = this.#reported;
    const figures = this.#figures(clientId, this.#rate(this.total - total, at), this.#ofSecond);
    this.#reported = { total: this.total, at: performance.now() };
    this.#ofSecond.clear();
    return figures;
  }

  wholeRun(clientId) {
    const rate = this.#rateOfRun ?? this.#rate(this.total, this.#started);
    return { ...this.#figures(clientId, rate, this.#ofRun), undecoded: this.undecoded };
  }

  #rate(count, since) {
    return Math.round((count * 1000) / Math.max(performance.now() - since, 0.001));
  }

  #figures(clientId, messagesPerSec, latencies) {
    return { clientId, messagesPerSec, totalMessages: this.total, ...latencies.figures() };
  }
}

function run(options) {
  const socket = new WebSocket(options.url, {
    perMessageDeflate: false,
    closeTimeout: CLOSE_TIMEOUT_MS,
  });
  const tally = new Tally(options.decodeEvery);
  let reports;
  let end;

  const report = () => {
    const stats = tally.lastSecond(options.clientId);
    if (!options.json) console.error(JSON.stringify(stats), "last tick:", tally.lastTick);
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "stats", ...stats }));
  };

  socket.on("open", () => {
    socket.send(JSON.stringify({ type: "identify", clientId: options.clientId }));
    reports = setInterval(report, 1000);
    end = setTimeout(() => {
      tally.freezeRate();
      report();
      if (!options.drain) {
        clearInterval(reports);
        socket.close(1000);
      }
    }, options.duration * 1000);
  });
  socket.on("message", (data, isBinary) => tally.count(data, isBinary));
  socket.on("error", (error) => console.error(`client.mjs: ${options.url}: ${error.message || error.code}`));
  socket.on("close", (closeCode) => {
    clearInterval(reports);
    clearTimeout(end);
    if (end !== undefined)
      console.log(JSON.stringify({ ...tally.wholeRun(options.clientId), closeCode }));
    process.exitCode = closeCode === CLOSED_ABNORMALLY ? 1 : 0;
  });
}

let options;
try {
  options = readOptions();
} catch (error) {
  console.error(`client.mjs: ${error.message}\n${USAGE}`);
  process.exit(2);
}
run(options);
