"""What the tests with drawn input share, and how long they go on.

The same 150 examples each time, or as many new ones as FASTWS_EXAMPLES says: `make fuzz-python`.
"""

import os

import h11
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FASTWS_EXAMPLES", "0"))
THOROUGH = settings(
    max_examples=EXAMPLES or 150,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.data_too_large,
    ],
)

TOKENS = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=8)


def read_back(answer: bytes, method: str) -> h11.Response | h11.InformationalResponse:
    """What an h11 client makes of an answer to a request of that method."""
    client = h11.Connection(h11.CLIENT)
    upgrade = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
    known = method if method in ("HEAD", "GET") else "GET"
    client.send(h11.Request(method=known, target="/", headers=[("Host", "h"), *upgrade]))
    client.send(h11.EndOfMessage())
    client.receive_data(answer)
    event = client.next_event()
    assert isinstance(event, h11.Response | h11.InformationalResponse)
    return event
