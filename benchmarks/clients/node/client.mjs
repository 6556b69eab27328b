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

// Counts and latencies; a mean of nothing is NaN, which JSON says as null.
class Tally {
  total = 0;
  undecoded = 0;
  lastTick = null;
  #untilDecode;
  #latenciesMs = [];
  #reported = { total: 0, samples: 0, at: performance.now() };
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
      this.#latenciesMs.push(performance.timeOrigin + performance.now() - tick.ts);
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
    const { total, samples, at } = this.#reported;
    const figures = this.#figures(clientId, this.#rate(this.total - total, at), samples);
    this.#reported = { total: this.total, samples: this.#latenciesMs.length, at: performance.now() };
    return figures;
  }

  wholeRun(clientId) {
    const rate = this.#rateOfRun ?? this.#rate(this.total, this.#started);
    return { ...this.#figures(clientId, rate, 0), undecoded: this.undecoded };
  }

  #rate(count, since) {
    return Math.round((count * 1000) / Math.max(performance.now() - since, 0.001));
  }

  #figures(clientId, messagesPerSec, firstSample) {
    const samples = Float64Array.from(this.#latenciesMs.slice(firstSample)).sort();
    const mean = samples.reduce((sum, sample) => sum + sample, 0) / samples.length;
    const p99 = samples[Math.ceil(samples.length * 0.99) - 1] ?? NaN;
    return {
      clientId,
      messagesPerSec,
      totalMessages: this.total,
      avgLatencyMs: roundMicroseconds(mean),
      p99LatencyMs: roundMicroseconds(p99),
    };
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
