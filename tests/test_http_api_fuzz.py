"""Drawn bodies for the HTTP API: a legal configuration, or a refusal that changes nothing."""

import json
from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st
from thorough import THOROUGH, read_back

from fastws.http.head import parse_request
from fastws.http.response import encode_response
from fastws.ticks.access import Access
from fastws.ticks.api import HttpApi
from fastws.ticks.changes import Changes
from fastws.ticks.config import FeedConfig

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["rate", "rampEnabled", "rampPercent", "rampIntervalSec", "format", "serverRate", "x"]
)
CHANGES = st.dictionaries(
    KEYS, st.one_of(JSON, st.integers(-5, 200000), st.sampled_from(["max", "json", "binary"]))
)
BODIES = st.one_of(CHANGES.map(json.dumps), JSON.map(json.dumps)).map(str.encode)


@THOROUGH
@given(
    st.one_of(
        BODIES,
        st.binary(max_size=40),
        BODIES.flatmap(lambda body: st.integers(0, len(body)).map(lambda n: body[:n])),
    )
)
@example(b"[" * 5000)
@example(b'{"rate":1e999}')
@example(b'{"rate":NaN}')
@example(b'{"rate":' + b"9" * 400 + b"}")
def test_any_body_changes_the_configuration_to_a_legal_one_or_not_at_all(body: bytes) -> None:
    state = [FeedConfig()]
    api = HttpApi(
        lambda: state[0],
        lambda config: state.__setitem__(0, config),
        dict,
        lambda: None,
        Access(),
        Changes(),
    )
    head = f"POST /config HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    request = replace(parse_request(head.encode()), body=body)
    answer = encode_response(api.handle(request))
    status = read_back(answer, "POST").status_code
    content = answer.partition(b"\r\n\r\n")[2]
    if status == 200:
        assert json.loads(content) == json.loads(json.dumps(state[0].to_wire()))
        assert FeedConfig().apply(dict(state[0].to_wire())) == state[0]
    else:
        assert status == 400
        assert content
        assert state[0] == FeedConfig()
