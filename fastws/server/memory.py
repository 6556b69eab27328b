"""How much memory there is: of the control group, else of the machine. Layer 6."""

import os
from contextlib import suppress
from pathlib import Path

from fastws.checks import LEAST_BUDGET, check_budget

MOST_UNASKED = 256 << 20  # bytes of one budget, unless an option says more
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


def memory_budget(option: str, given: int | None) -> int:
    """Return the bytes of memory that an option allows.

    Args:
        option: its name, for the error.
        given: 1 MiB up; None: the smaller of 256 MiB and an eighth of the memory.

    Raises:
        ConfigError: it is out of range.
    """
    if given is not None:
        check_budget(option, given)
        return given
    return max(LEAST_BUDGET, min(MOST_UNASKED, available_memory() // 8))
