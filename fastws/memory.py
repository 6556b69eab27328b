"""How much memory there is: of the control group, else of the machine. Layer 6."""

import os
from contextlib import suppress
from pathlib import Path

from fastws.config import LEAST_LOG_BYTES, check_buffered_bytes, check_log_bytes

MOST_LOG_BYTES = 256 << 20  # unless an option says more
OWN_CGROUP = Path("/proc/self/cgroup")
CGROUP_ROOT = Path("/sys/fs/cgroup")
# Version 2, and the memory controller of version 1.
LIMIT_FILES = ("memory.max", "memory.limit_in_bytes")


def cgroup_limits() -> list[int]:
    """Return the memory limits, bytes, of the control group of this process and of those above."""
    limits = []
    for group in _own_cgroups():
        for folder in (group, *group.parents):
            if not folder.is_relative_to(CGROUP_ROOT):
                break
            for name in LIMIT_FILES:
                with suppress(OSError):
                    text = (folder / name).read_text().strip()
                    if text.isdigit():  # "max": there is none
                        limits.append(int(text))
    return limits


def _own_cgroups() -> list[Path]:
    """The folders of the process's groups: lines of `hierarchy:controllers:path`."""
    found = [CGROUP_ROOT, CGROUP_ROOT / "memory"]
    with suppress(OSError):
        for line in OWN_CGROUP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                found.append(CGROUP_ROOT / controllers / path.lstrip("/"))
    return found


def available_memory() -> int:
    """Return the bytes of memory that this process can have: the least limit that is known."""
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *cgroup_limits()])


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
    return _default_budget()


def buffer_budget(max_buffered_bytes: int | None) -> int:
    """Return how many bytes all else that waits in user memory may take together.

    Args:
        max_buffered_bytes: 1 MiB up; None: the smaller of 256 MiB and an eighth of the memory.

    Raises:
        ConfigError: it is out of range.
    """
    if max_buffered_bytes is not None:
        check_buffered_bytes(max_buffered_bytes)
        return max_buffered_bytes
    return _default_budget()


def _default_budget() -> int:
    return max(LEAST_LOG_BYTES, min(MOST_LOG_BYTES, available_memory() // 8))
