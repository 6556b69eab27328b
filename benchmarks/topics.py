"""Thousands of topics: what they cost in processor time, memory and pauses.

    python benchmarks/topics.py --section fanout
    python benchmarks/topics.py --python old=OLD/bin/python,new=NEW/bin/python --rounds 11

Interpreters with a fastws installed are compared within one run: in each round every one of them
is measured in every case, another one first. Prints the median, least and largest of each figure
and, behind an x, of its ratio to that of the first interpreter in the same round, then all of it as
one line of JSON. --quick tries every section with small sizes: for what works, not for figures.
"""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from topics_fanout import fanout
from topics_memory import memory, retained
from topics_running import Options, as_json, contenders_of, report
from topics_traffic import pace, stats, users
from topics_wire import raise_file_limit

RESERVED_FILES = 300  # descriptors that the clients leave, here and in the server
Rows = list[dict[str, Any]]
SECTIONS: dict[str, Callable[[Options], Rows]] = {
    "fanout": fanout,
    "memory": memory,
    "retained": retained,
    "users": users,
    "stats": stats,
    "pace": pace,
}


def arguments() -> tuple[list[str], Options]:
    """Read the command line: the sections and their options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--section", action="append", choices=SECTIONS, help="default: all")
    parser.add_argument(
        "--python", default=sys.executable, help="interpreters, [NAME=]PATH[,[NAME=]PATH...]"
    )
    parser.add_argument(
        "--peers", default=sys.executable, help="the interpreter that has socketify and picows"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round with small sizes")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], help="default: as the section")
    fan_out = parser.add_argument_group("fanout")
    fan_out.add_argument("--clients", type=int, default=100)
    fan_out.add_argument("--topics", default="1,10,100,500,2000", help="numbers of topics")
    fan_out.add_argument("--seconds", type=float, default=1.0, help="of each measurement, least")
    fan_out.add_argument(
        "--check", action="store_true", help="parse every frame, count those out of order"
    )
    memories = parser.add_argument_group("memory and retained")
    memories.add_argument("--memory-rounds", type=int, default=1)
    memories.add_argument("--named", type=int, default=100_000, help="topics; also of stats")
    memories.add_argument("--cycles", type=int, default=1_000_000)
    memories.add_argument("--settle", type=float, default=5.0, help="seconds until it is quiet")
    memories.add_argument("--busy", type=int, default=1000, help="topics of retained")
    memories.add_argument("--published", type=int, default=16, help="MiB to each of them")
    memories.add_argument(
        "--max-growth", type=int, default=2048, help="MiB of the server; past it a case stops"
    )
    traffic = parser.add_argument_group("users, stats, pace")
    traffic.add_argument("--users", type=int, default=1000, help="connections")
    traffic.add_argument("--topics-per-user", type=int, default=100)
    traffic.add_argument("--bursts", type=int, default=5, help="of a measurement")
    traffic.add_argument("--idle", type=int, default=19_000, help="connections of stats, at most")
    traffic.add_argument("--asked", type=int, default=100, help="requests of a measurement")
    traffic.add_argument("--pace-clients", default="1000,5000", help="numbers of clients")
    traffic.add_argument("--pace-rate", type=int, default=1000, help="messages a second")
    traffic.add_argument("--pace-seconds", type=float, default=5.0)
    traffic.add_argument(
        "--outside", type=int, default=20_000_000, help="messages of the other thread, at most"
    )
    traffic.add_argument("--outside-rate", type=int, default=1_000_000, help="of them a second")
    found = vars(parser.parse_args())
    sections = found.pop("section") or list(SECTIONS)
    found["python"] = contenders_of(found["python"])
    found["topics"] = [int(text) for text in found["topics"].split(",")]
    found["pace_clients"] = [int(text) for text in found["pace_clients"].split(",")]
    found["idle"] = min(found["idle"], raise_file_limit() - RESERVED_FILES)
    return sections, Options(**found)


def main() -> None:
    """Measure the sections, one after the other."""
    sections, options = arguments()
    if not {options.server_core, options.client_core} <= os.sched_getaffinity(0):
        sys.exit("topics: --server-core and --client-core must be cores of this machine")
    os.sched_setaffinity(0, {options.client_core})
    rows: Rows = []
    for name in sections:
        found = SECTIONS[name](options)
        report(found)
        rows += found
    print(as_json(rows))


if __name__ == "__main__":
    main()
