//! The command line. Knows no more of WebSocket than how a ws:// URL names its host.

use std::time::Duration;

pub const USAGE: &str = "usage: tick-client [--url ws://127.0.0.1:8080] [--duration SECONDS] \
[--client-id tauri-rust] [--decode-every 1000] [--drain] [--json]
  --drain  when the time is up, read on until the server closes
  --json   nothing but the last line, no report a second on stderr";

pub struct Options {
    pub url: String,
    /// host:port of the URL.
    pub address: String,
    pub duration: Duration,
    pub client_id: String,
    /// 1 decodes every tick.
    pub decode_every: u64,
    pub drain: bool,
    pub json: bool,
}

/// Reads the arguments (without the program's name); the error says which one is wrong.
pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        url: "ws://127.0.0.1:8080".to_owned(),
        address: String::new(),
        duration: Duration::from_secs(10),
        client_id: "tauri-rust".to_owned(),
        decode_every: 1000,
        drain: false,
        json: false,
    };
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{name} needs a value"));
        match name.as_str() {
            "--url" => options.url = value()?,
            "--duration" => options.duration = seconds(&value()?)?,
            "--client-id" => options.client_id = value()?,
            "--decode-every" => options.decode_every = interval(&value()?)?,
            "--drain" => options.drain = true,
            "--json" => options.json = true,
            _ => return Err(format!("unknown option {name}")),
        }
    }
    options.address = address(&options.url)?;
    Ok(options)
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|duration| *duration <= Duration::from_secs(30 * 86_400))
        .ok_or(format!(
            "--duration takes seconds, at most 30 days, not {text}"
        ))
}

fn interval(text: &str) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|every| *every > 0)
        .ok_or(format!("--decode-every takes a number from 1, not {text}"))
}

fn address(url: &str) -> Result<String, String> {
    let rest = url
        .strip_prefix("ws://")
        .ok_or(format!("--url must start with ws://, unlike {url}"))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        return Err(format!("--url names no host: {url}"));
    }
    let port_is_there = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if port_is_there {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    })
}
