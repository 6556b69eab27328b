"""How long the tests with drawn input go on.

The same 150 examples each time, or as many new ones as FASTWS_EXAMPLES says: `make fuzz-python`.
"""

import os

from hypothesis import HealthCheck, settings

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
