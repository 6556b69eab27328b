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

pub struct Tally {
    decode_every: u64,
    total: u64,
    until_decode: u64,
    undecoded: u64,
    last: (String, f64),
    /// Of the whole run; those from `reported_samples` on are of the current second.
    latencies_ms: Vec<f64>,
    reported_samples: usize,
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
            latencies_ms: Vec::new(),
            reported_samples: 0,
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
        self.latencies_ms
            .push(now.as_secs_f64() * 1e3 - tick.ts as f64);
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
        let mut figures = self.figures(client_id, per_second, self.reported_samples);
        figures.kind = Some("stats");
        self.reported_total = self.total;
        self.reported_samples = self.latencies_ms.len();
        self.reported_at = Instant::now();
        figures
    }

    pub fn whole_run<'a>(&self, client_id: &'a str, close_code: u16) -> Figures<'a> {
        let per_second = self
            .rate_of_run
            .unwrap_or_else(|| rate(self.total, self.started));
        let mut figures = self.figures(client_id, per_second, 0);
        figures.undecoded = Some(self.undecoded);
        figures.close_code = Some(close_code);
        figures
    }

    fn figures<'a>(&self, client_id: &'a str, per_second: f64, first_sample: usize) -> Figures<'a> {
        let mut samples = self.latencies_ms[first_sample..].to_vec();
        samples.sort_unstable_by(f64::total_cmp);
        let mean = samples.iter().sum::<f64>() / samples.len() as f64;
        let p99 = samples.get((samples.len() * 99).div_ceil(100).saturating_sub(1));
        Figures {
            kind: None,
            client_id,
            messages_per_sec: per_second.round() as u64,
            total_messages: self.total,
            avg_latency_ms: round_us(mean),
            p99_latency_ms: round_us(p99.copied().unwrap_or(f64::NAN)),
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
