"""How much memory there is: of the control group, else of the machine. Layer 6."""

import os
from pathlib import Path

from fastws.config import LEAST_LOG_BYTES, check_log_bytes

MOST_LOG_BYTES = 256 << 20  # unless an option says more
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def available_memory() -> int:
    """Return the bytes of memory that this process can have: the least limit that is known."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in CGROUP_LIMITS:
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # "max": there is none
            limits.append(int(text))
    return min(limits)


def log_budget(max_log_bytes: int | None) -> int:
    """Return how many bytes the logs of all topics may take together.

    Args:
        max_log_bytes: 1 MiB up; None: the smaller of 256 MiB and an eighth of the memory.

    Raises:
        ConfigError: it is out of range.
    """
    if max_log_bytes is not None:
        check_log_bytes(max_log_bytes)
        return max_log_bytes
    return max(LEAST_LOG_BYTES, min(MOST_LOG_BYTES, available_memory() // 8))
