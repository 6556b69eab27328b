"""Whether an instrument is around the tests, and what stands in front of a server's command."""

import os
import shlex

PRELOADED = os.environ.get("LD_PRELOAD", "")
SANITIZED = "san" in PRELOADED
# Such as valgrind and its options; in front of this project's programs, not of tests' helpers.
UNDER = shlex.split(os.environ.get("FASTWS_SERVER_UNDER", ""))
# Memory and time are the instrument's then.
INSTRUMENTED = SANITIZED or bool(UNDER) or "vgpreload" in PRELOADED
