//! Counts and latencies. Knows ticks, not sockets.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

const SYMBOLS: [&str; 5] = ["BTC", "ETH", "SOL", "DOGE", "XRP"];
/// u32 symbol, f64 price, i64 ts in ms, little endian; extended ticks are longer.
const BINARY_TICK_BYTES: usize = 20;

#[derive(Deserialize)]
struct Tick<'a> {
    symbol: &'a str,
    price: f64,
    /// Milliseconds since the Unix epoch.
    ts: u64,
}

/// What is told to the server and on stdout; a latency that is NaN becomes null.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    pub client_id: &'a str,
    pub messages_per_sec: u64,
    pub total_messages: u64,
    pub avg_latency_ms: f64,
    pub p99_latency_ms: f64,
    /// How many sampled ticks could not be decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undecoded: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close_code: Option<u16>,
}

/// How many latencies there were in each step of `STEP_MS`: memory does not grow with a run.
struct Latencies {
    n: u64,
    sum_ms: f64,
    counts: Vec<u64>,
    /// The last step that was used.
    most: usize,
}

const STEP_MS: f64 = 0.01;
/// Ten seconds; what is longer counts there.
const STEPS: usize = 1_000_000;

impl Latencies {
    fn new() -> Self {
        Latencies {
            n: 0,
            sum_ms: 0.0,
            counts: vec![0; STEPS],
            most: 0,
        }
    }

    fn add(&mut self, ms: f64) {
        self.n += 1;
        self.sum_ms += ms;
        // A negative one, of a clock that was put back, becomes 0.
        let step = ((ms / STEP_MS) as usize).min(STEPS - 1);
        self.counts[step] += 1;
        self.most = self.most.max(step);
    }

    fn clear(&mut self) {
        self.n = 0;
        self.sum_ms = 0.0;
        self.counts[..=self.most].fill(0);
        self.most = 0;
    }

    fn p99_ms(&self) -> f64 {
        let wanted = (self.n * 99).div_ceil(100);
        let mut seen = 0;
        let place = self.counts.iter().position(|count| {
            seen += count;
            self.n > 0 && seen >= wanted
        });
        place.map_or(f64::NAN, |place| place as f64 * STEP_MS)
    }
}

pub struct Tally {
    decode_every: u64,
    total: u64,
    until_decode: u64,
    undecoded: u64,
    last: (String, f64),
    of_second: Latencies,
    of_run: Latencies,
    reported_total: u64,
    reported_at: Instant,
    started: Instant,
    rate_of_run: Option<f64>,
}

impl Tally {
    pub fn new(decode_every: u64) -> Self {
        let now = Instant::now();
        Tally {
            decode_every,
            total: 0,
            until_decode: decode_every,
            undecoded: 0,
            last: (String::new(), f64::NAN),
            of_second: Latencies::new(),
            of_run: Latencies::new(),
            reported_total: 0,
            reported_at: now,
            started: now,
            rate_of_run: None,
        }
    }

    #[inline]
    pub fn count_text(&mut self, payload: &[u8]) {
        if self.is_sampled() {
            self.decode(serde_json::from_slice(payload).ok());
        }
    }

    #[inline]
    pub fn count_binary(&mut self, payload: &[u8]) {
        if self.is_sampled() {
            self.decode(binary_tick(payload));
        }
    }

    #[inline]
    fn is_sampled(&mut self) -> bool {
        self.total += 1;
        self.until_decode -= 1;
        if self.until_decode > 0 {
            return false;
        }
        self.until_decode = self.decode_every;
        true
    }

    #[cold]
    fn decode(&mut self, tick: Option<Tick>) {
        let Some(tick) = tick else {
            self.undecoded += 1;
            return;
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let latency_ms = now.as_secs_f64() * 1e3 - tick.ts as f64;
        self.of_second.add(latency_ms);
        self.of_run.add(latency_ms);
        tick.symbol.clone_into(&mut self.last.0);
        self.last.1 = tick.price;
    }

    pub fn last_tick(&self) -> String {
        format!("{} {}", self.last.0, self.last.1)
    }

    /// From here on the rate of the run stands, whatever is still drained.
    pub fn freeze_rate(&mut self) {
        self.rate_of_run = Some(rate(self.total, self.started));
    }

    /// The figures since the last call; the total is of the whole run.
    pub fn last_second<'a>(&mut self, client_id: &'a str) -> Figures<'a> {
        let per_second = rate(self.total - self.reported_total, self.reported_at);
        let mut figures = self.figures(client_id, per_second, &self.of_second);
        figures.kind = Some("stats");
        self.reported_total = self.total;
        self.of_second.clear();
        self.reported_at = Instant::now();
        figures
    }

    pub fn whole_run<'a>(&self, client_id: &'a str, close_code: u16) -> Figures<'a> {
        let per_second = self
            .rate_of_run
            .unwrap_or_else(|| rate(self.total, self.started));
        let mut figures = self.figures(client_id, per_second, &self.of_run);
        figures.undecoded = Some(self.undecoded);
        figures.close_code = Some(close_code);
        figures
    }

    fn figures<'a>(&self, client_id: &'a str, per_second: f64, of: &Latencies) -> Figures<'a> {
        Figures {
            kind: None,
            client_id,
            messages_per_sec: per_second.round() as u64,
            total_messages: self.total,
            avg_latency_ms: round_us(of.sum_ms / of.n as f64),
            p99_latency_ms: round_us(of.p99_ms()),
            undecoded: None,
            close_code: None,
        }
    }
}

fn binary_tick(payload: &[u8]) -> Option<Tick<'static>> {
    if payload.len() < BINARY_TICK_BYTES {
        return None;
    }
    let symbol = u32::from_le_bytes(payload[0..4].try_into().ok()?);
    let price = f64::from_le_bytes(payload[4..12].try_into().ok()?);
    let ts = i64::from_le_bytes(payload[12..20].try_into().ok()?);
    Some(Tick {
        symbol: SYMBOLS.get(symbol as usize)?,
        price,
        ts: u64::try_from(ts).ok()?,
    })
}

fn rate(count: u64, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64().max(1e-9)
}

fn round_us(milliseconds: f64) -> f64 {
    (milliseconds * 1e3).round() / 1e3
}
