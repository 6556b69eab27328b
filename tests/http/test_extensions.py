"""Sec-WebSocket-Extensions: grammar, every parameter of RFC 7692, what is declined."""

import time

import pytest

from fastws.http.extensions import Deflate, negotiate

PLAIN = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def window_of(*values: str) -> int | None:
    """The window agreed on, in bits; None when nothing was."""
    deflate = negotiate(values)
    return None if deflate is None else deflate.window_bits


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate;client_max_window_bits=8",
        "permessage-deflate ; client_max_window_bits = 15",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ", ,permessage-deflate,",
    ],
)
def test_an_offer_without_a_window_gets_the_largest(offer: str) -> None:
    assert negotiate([offer]) == Deflate(15, PLAIN)


@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("quote", ["", '"'])
def test_a_window_that_is_asked_for_is_answered(bits: int, quote: str) -> None:
    deflate = negotiate([f"permessage-deflate; server_max_window_bits={quote}{bits}{quote}"])
    assert deflate == Deflate(bits, f"{PLAIN}; server_max_window_bits={bits}")


def test_the_client_s_window_is_not_answered_since_any_is_taken() -> None:
    assert negotiate(["permessage-deflate; client_max_window_bits=10"]) == Deflate(15, PLAIN)


def test_a_window_of_8_bits_is_declined() -> None:
    assert window_of("permessage-deflate; server_max_window_bits=8") is None


@pytest.mark.hostile("H43")
@pytest.mark.parametrize(
    "parameters",
    [
        "server_no_context_takeover=1",
        'client_no_context_takeover="x"',
        "server_no_context_takeover; server_no_context_takeover",
        "server_max_window_bits",
        "server_max_window_bits=",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=010",
        "server_max_window_bits=+10",
        "server_max_window_bits=\u0661\u0660",
        "server_max_window_bits=10; server_max_window_bits=11",
        "client_max_window_bits=0",
        "client_max_window_bits=x",
        "client_max_window_bits; client_max_window_bits=10",
        "SERVER_MAX_WINDOW_BITS=10",
        "constructor",
        "__class__=1",
        ";",
        "",
        "server_max_window_bits=10 11",
        'server_max_window_bits="10',
        'server_max_window_bits="1\\0"',
        "=10",
    ],
)
def test_a_malformed_offer_is_declined(parameters: str) -> None:
    assert window_of(f"permessage-deflate; {parameters}") is None


def test_the_first_offer_that_can_be_taken_is() -> None:
    narrow = "permessage-deflate; server_max_window_bits"
    assert window_of(f"{narrow}=8, {narrow}=10, permessage-deflate") == 10
    assert window_of(f"{narrow}=8", "permessage-deflate; unheard_of", "permessage-deflate") == 15


def test_other_extensions_are_passed_over() -> None:
    assert window_of("x-webkit-deflate-frame, constructor; a=b; c, permessage-deflate") == 15
    assert window_of("permessage-deflate2", "permessage_deflate", "toString") is None
    assert window_of() is None
    assert window_of("") is None


def test_one_broken_element_spoils_the_field() -> None:
    assert window_of("permessage-deflate, =") is None


def test_more_offers_and_parameters_than_64_are_all_declined() -> None:
    assert window_of(*["other"] * 63, "permessage-deflate") == 15
    assert window_of(*["other"] * 64, "permessage-deflate") is None
    assert window_of("permessage-deflate, other" + "; a" * 62) == 15
    assert window_of("permessage-deflate, other" + "; a" * 63) is None


@pytest.mark.hostile("H43")
@pytest.mark.parametrize(
    "text",
    [
        'a; b="' + "\\" * 8000,
        "permessage-deflate; " * 400,
        " \t" * 4000 + "x y",
        ",; ," * 2000,
        "permessage-deflate; client_max_window_bits=" + "9" * 8000,
        "a;" + "b=c;" * 2000,
    ],
    ids=["quoted", "repeated", "blank", "empty", "digits", "parameters"],
)
def test_a_field_of_8_kib_takes_no_time(text: str) -> None:
    began = time.thread_time()
    assert window_of(text) is None
    assert time.thread_time() - began < 0.5
