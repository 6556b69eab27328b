"""Runs client.html, a tick client, in a headless Chromium.

Serves the page on 127.0.0.1, and ends Chromium when it is ended. Its options and its last line are
those of the other clients, see README.md.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, SimpleQueue
from urllib.parse import urlencode, urlsplit

PAGE = Path(__file__).with_name("client.html")
PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
STOP_TIMEOUT = 3.0  # seconds from SIGTERM to SIGKILL
LOOK_EVERY = 0.5  # seconds
CLOSED_ABNORMALLY = 1006  # RFC 6455 7.4.1: no Close frame came
FLAGS = (
    "--headless",
    "--disable-gpu",
    # Nothing is fetched but the page and its ticks.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
    "--no-pings",
    # A page that nobody looks at would be slowed down.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
)


class Stopped(Exception):
    """SIGTERM came."""


def main() -> int:
    """Run the page until its connection ends; return the exit status."""
    options = read_options()
    program = options.chromium or find_chromium()
    if program is None:
        print("start.py: there is no Chromium; --chromium names one", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, stop)
    done: SimpleQueue[dict[str, object]] = SimpleQueue()
    server = ThreadingHTTPServer(("127.0.0.1", 0), page_handler(done))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = f"http://127.0.0.1:{server.server_port}/?{urlencode(query(options))}"
    try:
        # Chromium's last process may still write while the folder goes.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            last = browse(command(program, page, profile, options.url), done)
    except (KeyboardInterrupt, Stopped):
        return 128 + signal.SIGTERM
    finally:
        server.shutdown()
    if last is None:
        return 1
    print(json.dumps(last))
    return 1 if last["closeCode"] == CLOSED_ABNORMALLY else 0


def read_options() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--url", default="ws://127.0.0.1:8080")
    parser.add_argument("--duration", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("--client-id", default="browser-headless")
    parser.add_argument("--decode-every", type=int, default=1, metavar="N")
    parser.add_argument("--drain", action="store_true", help="read on until the server closes")
    parser.add_argument("--json", action="store_true", help="print the last line only, as always")
    parser.add_argument("--chromium", metavar="PROGRAM", default=os.environ.get("CHROMIUM"))
    return parser.parse_args()


def query(options: argparse.Namespace) -> dict[str, object]:
    """Return what the page is told."""
    return {
        "url": options.url,
        "clientId": options.client_id,
        "seconds": options.duration,
        "decodeEvery": options.decode_every,
        "drain": int(options.drain),
    }


def find_chromium() -> str | None:
    """Return the path of an installed Chromium."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


def stop(*_: object) -> None:
    """Unwind, so that Chromium is ended."""
    raise Stopped


def page_handler(done: SimpleQueue[dict[str, object]]) -> type[BaseHTTPRequestHandler]:
    """Return what serves the page, and puts what it posts into the queue."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if urlsplit(self.path).path != "/":
                self.send_error(404)
                return
            self.answer(PAGE.read_bytes(), "text/html; charset=utf-8")

        def do_POST(self) -> None:
            done.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer(b"", "text/plain")

        def answer(self, body: bytes, content_type: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing of requests."""

    return Handler


def command(program: str, page: str, profile: str, url: str) -> list[str]:
    """Return the command that opens the page, with names of no other host resolved."""
    hosts = " ".join(f", EXCLUDE {host}" for host in ("127.0.0.1", urlsplit(url).hostname))
    rules = f"--host-resolver-rules=MAP * ~NOTFOUND{hosts}"
    root = ["--no-sandbox"] if os.geteuid() == 0 else []  # its sandbox does not work for root
    return [program, *FLAGS, *root, rules, f"--user-data-dir={profile}", page]


def browse(arguments: list[str], done: SimpleQueue[dict[str, object]]) -> dict[str, object] | None:
    """Run Chromium until the page has posted its last line; None: Chromium ended before."""
    chromium = subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while chromium.poll() is None:
            with suppress(Empty):
                return done.get(timeout=LOOK_EVERY)
        print(f"start.py: Chromium ended with status {chromium.returncode}", file=sys.stderr)
        return None
    finally:
        end(chromium)


def end(chromium: "subprocess.Popen[bytes]") -> None:
    """End Chromium; its other processes end with the first one."""
    chromium.terminate()
    try:
        chromium.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        chromium.kill()
        chromium.wait()


if __name__ == "__main__":
    sys.exit(main())
