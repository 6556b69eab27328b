"""The admin token: from where it comes, and that `fastws serve` asks for it on every way in."""

import http.client
import json
import logging
from pathlib import Path
from urllib.request import urlopen

import pytest
from support import PATIENCE
from test_cli import serving
from typed import Type

from fastws.cli.secret import read_token
from fastws.cli.serve import log_level, serve
from fastws.errors import ConfigError
from fastws.ticks.config import ServeOptions


def token_file(folder: Path, content: bytes, mode: int = 0o600) -> str:
    path = folder / "token"
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def change(port: int, **fields: str) -> int:
    """The status of a change of the rate, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    connection.request("POST", "/config/", b'{"rate": 0}', headers)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("content", [b"s3cret", b"s3cret\n", b"  s3cret\r\n\n", b"x" * 4096])
def test_a_token_is_read_without_the_blanks_around_it(tmp_path: Path, content: bytes) -> None:
    assert read_token(token_file(tmp_path, content)) == content.strip().decode()


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"two words", b"two\nlines", b"caf\xc3\xa9", b"\0", b"x" * 4097]
)
def test_what_is_no_token_is_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"^admin_token_file: '.*' must hold visible ASCII"):
        read_token(token_file(tmp_path, content))


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=f"^admin_token_file: cannot read '{path}': {why}"):
            read_token(str(path))


@pytest.mark.parametrize(("mode", "said"), [(0o600, 0), (0o640, 0), (0o604, 1), (0o644, 1)])
def test_a_file_that_everybody_may_read_is_said(
    tmp_path: Path, mode: int, said: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_token(token_file(tmp_path, b"s3cret", mode)) == "s3cret"
    assert len(caplog.records) == said
    for record in caplog.records:
        assert record.levelno == logging.WARNING
        assert "everybody may read the admin token" in record.getMessage()
        assert "s3cret" not in record.getMessage()


def test_a_token_in_a_file_and_one_on_the_command_line_are_too_many(
    typed: Type, tmp_path: Path
) -> None:
    path = token_file(tmp_path, b"s3cret")
    done = typed("serve", "--admin-token-file", path, FASTWS_ADMIN_TOKEN="other")
    assert done.output == ""
    assert done.errors == "fastws: --admin-token-file: cannot be combined with --admin-token\n"


def test_serve_asks_for_the_token_of_the_file_and_does_not_show_it(tmp_path: Path) -> None:
    path = token_file(tmp_path, b"s3cret\n")
    with serving("--admin-token-file", path) as (process, port, _):
        assert b"s3cret" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert change(port) == 403
        assert change(port, Authorization="Bearer guess") == 403
        assert change(port, Authorization="Bearer s3cret") == 200
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
    assert [" WARNING " in line for line in lines] == [True, True, False]
    assert " INFO fastws: change accepted: POST /config/ " in lines[2]
    assert not any("s3cret" in line for line in lines)


def test_serve_takes_changes_from_pages_of_this_machine_and_from_no_other() -> None:
    with serving("--allowed-origin", "https://*.panel.example") as (_, port, _):
        assert change(port) == 200
        assert change(port, Origin="http://localhost:5173") == 200
        assert change(port, Origin="https://a.panel.example") == 200
        assert change(port, Origin="https://evil.example") == 403
        assert change(port, Origin="null") == 403
        assert change(port, Host=f"evil.example:{port}") == 403
        assert change(port, Host=f"localhost:{port}") == 200
        for name in ("X_Real_IP", "Via", "CF_Connecting_IP", "Forwarded", "X_Forwarded_For"):
            assert change(port, **{name: "127.0.0.1"}) == 403
        with urlopen(f"http://127.0.0.1:{port}/stats/", timeout=PATIENCE) as answer:
            assert json.load(answer)["server"]["changes"] == {"accepted": 4, "refused": 8}


@pytest.mark.parametrize(
    ("options", "level"),
    [
        ((), logging.INFO),
        (("--log-level", "warning"), logging.WARNING),
        (("--log-level", "error"), logging.ERROR),
        (("--quiet",), logging.WARNING),
        (("--quiet", "--log-level", "error"), logging.ERROR),
    ],
)
def test_the_least_level_of_the_log_can_be_chosen(options: tuple[str, ...], level: int) -> None:
    context = serve.make_context("serve", ["--port", "0", *options])
    chosen = {key: context.params[key] for key in ("quiet", "log_level")}
    assert log_level(ServeOptions(**chosen)) == level
