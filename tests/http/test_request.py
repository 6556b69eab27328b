"""What is made of a request's target and fields when it is asked for."""

from dataclasses import FrozenInstanceError, replace

import pytest

from fastws.http.head import parse_request
from fastws.http.request import Request


class From:
    remote_address = ("192.0.2.1", 4711)


def request(target: str = "/", *fields: str) -> Request:
    lines = "".join(f"{field}\r\n" for field in ("Host: h", *fields))
    return parse_request(f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1"), peer=From())


def test_headers_are_a_mapping_by_name_in_any_case() -> None:
    headers = request("/", "X-Two: a", "Y: 1", "x-two: b").headers
    assert headers["X-TWO"] == headers["x-two"] == "a, b"
    assert headers.get_all("x-Two") == ["a", "b"]
    assert headers.get_all("absent") == []
    assert list(headers) == ["host", "x-two", "y"]
    assert len(headers) == 3
    assert "Y" in headers
    assert "Z" not in headers
    assert headers.get("z") is None
    with pytest.raises(KeyError, match="z"):
        headers["z"]
    assert repr(headers) == "{'host': 'h', 'x-two': 'a, b', 'y': '1'}"


@pytest.mark.parametrize(
    ("target", "query"),
    [
        ("/", {}),
        ("/?", {}),
        ("/?a", {"a": ""}),
        ("/?a=&b", {"a": "", "b": ""}),
        ("/?a=1&a=2", {"a": "1"}),
        ("/?=1", {"": "1"}),
        ("/?a=1=2", {"a": "1=2"}),
        ("/?a+b=c+d", {"a b": "c d"}),
        ("/?%61=%26%3D", {"a": "&="}),
        ("/?a=%", {"a": "%"}),
        ("/?a=%f", {"a": "%f"}),
        ("/?a=%ff", {"a": "\ufffd"}),
        ("/?a=%c3%a9", {"a": "é"}),
        ("/?a=1;b=2", {"a": "1;b=2"}),
        ("/?a=1?b=2", {"a": "1?b=2"}),
        ("http://h/p?a=1", {"a": "1"}),
    ],
)
def test_a_query_is_taken_apart(target: str, query: dict[str, str]) -> None:
    assert request(target).query == query


def test_every_value_of_a_name_in_the_query_is_there() -> None:
    asked = request("/?a=1&b=3&a=2&a")
    assert asked.query_all("a") == ["1", "2", ""]
    assert asked.query_all("c") == []


def test_the_peer_is_asked_for_its_address() -> None:
    assert request().remote_address == ("192.0.2.1", 4711)
    assert replace(request(), peer=None).remote_address == ("", 0)


def test_a_request_cannot_be_changed_and_keeps_its_peer_and_body_out_of_its_repr() -> None:
    asked = replace(request("/p"), body=b"secret")
    with pytest.raises(FrozenInstanceError):
        asked.method = "POST"  # type: ignore[misc]
    assert "secret" not in repr(asked)
    assert "peer" not in repr(asked)
    assert asked == replace(asked, peer=None)
    assert asked != replace(asked, body=b"")
