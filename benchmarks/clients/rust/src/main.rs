//! A tick client as they exist in the field: tokio-tungstenite over one plain TCP connection.
//!
//! Counts every data frame as a tick, decodes every n-th, identifies itself when the connection
//! opens and reports its statistics once a second. It knows nothing of the server beyond that,
//! and ends with one line of JSON on stdout. Everything else it says goes to stderr.

mod options;
mod tally;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, SinkExt, StreamExt};
use options::Options;
use serde_json::json;
use tally::{Figures, Tally};
use tokio::net::TcpStream;
use tokio::time::{interval_at, timeout, MissedTickBehavior};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{client_async_with_config, WebSocketStream};

const READ_BUFFER_BYTES: usize = 128 * 1024;
/// How many ticks may pass before the clock is looked at again.
const BURST: usize = 4096;
/// How long the server may take to answer our Close frame and to close TCP after its own.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// RFC 6455 7.4.1: what is reported when no Close frame came, or one without a code.
const CLOSED_ABNORMALLY: u16 = 1006;
const CLOSED_WITHOUT_CODE: u16 = 1005;

type Socket = WebSocketStream<TcpStream>;

/// What the server's side of the connection has come to.
enum State {
    Open,
    Closed(u16),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = match options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("tick-client: {message}");
            eprintln!("{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    let mut socket = match connect(&options).await {
        Ok(socket) => socket,
        Err(error) => {
            eprintln!("tick-client: {}: {error}", options.url);
            return ExitCode::from(1);
        }
    };
    let mut tally = Tally::new(options.decode_every);
    let close_code = match run(&mut socket, &mut tally, &options).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tick-client: connection lost: {error}");
            CLOSED_ABNORMALLY
        }
    };
    println!(
        "{}",
        to_json(&tally.whole_run(&options.client_id, close_code))
    );
    ExitCode::from(u8::from(close_code == CLOSED_ABNORMALLY))
}

async fn connect(options: &Options) -> Result<Socket, Error> {
    let stream = TcpStream::connect(&options.address).await?;
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    let (socket, _) = client_async_with_config(&options.url, stream, Some(config)).await?;
    Ok(socket)
}

/// Identifies, counts and reports until the time is up or the server closes, and closes properly.
/// Returns the code of the server's Close frame.
async fn run(socket: &mut Socket, tally: &mut Tally, options: &Options) -> Result<u16, Error> {
    let client_id = json!(options.client_id);
    let identify = format!(r#"{{"type":"identify","clientId":{client_id}}}"#);
    socket.send(Message::text(identify)).await?;

    let second = Duration::from_secs(1);
    let mut ends = tokio::time::Instant::now() + options.duration;
    let mut draining = false;
    let mut reports = interval_at(tokio::time::Instant::now() + second, second);
    reports.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let state = tokio::select! {
            biased;
            () = tokio::time::sleep_until(ends), if !draining => {
                tally.freeze_rate();
                report(socket, tally, options).await?;
                if !options.drain {
                    break;
                }
                draining = true;
                ends = tokio::time::Instant::now();
                State::Open
            }
            _ = reports.tick() => {
                report(socket, tally, options).await?;
                State::Open
            }
            message = socket.next() => take_burst(message, socket, tally)?,
        };
        if let State::Closed(code) = state {
            wait_for_eof(socket).await;
            return Ok(code);
        }
    }
    close(socket, tally).await
}

/// Takes the message that woke us and what can be read without waiting, at most BURST.
fn take_burst(
    first: Option<Result<Message, Error>>,
    socket: &mut Socket,
    tally: &mut Tally,
) -> Result<State, Error> {
    let mut message = first;
    for _ in 0..BURST {
        if let State::Closed(code) = take(message, tally)? {
            return Ok(State::Closed(code));
        }
        match socket.next().now_or_never() {
            Some(next) => message = next,
            None => return Ok(State::Open),
        }
    }
    take(message, tally)
}

fn take(message: Option<Result<Message, Error>>, tally: &mut Tally) -> Result<State, Error> {
    match message {
        None => return Ok(State::Closed(CLOSED_ABNORMALLY)),
        Some(message) => match message? {
            Message::Text(text) => tally.count_text(text.as_bytes()),
            Message::Binary(data) => tally.count_binary(&data),
            Message::Close(frame) => {
                return Ok(State::Closed(
                    frame.map_or(CLOSED_WITHOUT_CODE, |frame| frame.code.into()),
                ));
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        },
    }
    Ok(State::Open)
}

async fn report(socket: &mut Socket, tally: &mut Tally, options: &Options) -> Result<(), Error> {
    let stats = to_json(&tally.last_second(&options.client_id));
    if !options.json {
        eprintln!("{stats} last tick: {}", tally.last_tick());
    }
    socket.send(Message::text(stats)).await
}

fn to_json(figures: &Figures) -> String {
    serde_json::to_string(figures).expect("figures are plain numbers and text")
}

/// Sends our Close frame and counts what still arrives before the server's answer.
async fn close(socket: &mut Socket, tally: &mut Tally) -> Result<u16, Error> {
    let frame = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    socket.close(Some(frame)).await?;
    let gives_up = Instant::now() + CLOSE_TIMEOUT;
    while let Some(left) = gives_up.checked_duration_since(Instant::now()) {
        let Ok(message) = timeout(left, socket.next()).await else {
            break;
        };
        if let State::Closed(code) = take(message, tally)? {
            wait_for_eof(socket).await;
            return Ok(code);
        }
    }
    Ok(CLOSED_ABNORMALLY)
}

/// RFC 6455 7.1.1: the server closes TCP first; the library answers its Close frame meanwhile.
async fn wait_for_eof(socket: &mut Socket) {
    let ended = async { while let Some(Ok(_)) = socket.next().await {} };
    if timeout(CLOSE_TIMEOUT, ended).await.is_err() {
        eprintln!("tick-client: the server did not close TCP");
    }
}
