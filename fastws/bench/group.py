"""Connections of one run that are treated alike, and what is counted of them. Layer 6."""

from fastws._frame import Connection
from fastws.bench.clients import Clients
from fastws.bench.measurement import GroupMeasurement
from fastws.bench.meters import Meter
from fastws.bench.numbers import Counts, numbers_of


class Group:
    """The connections of one engine, with a meter of their own.

    Args:
        clients: the connections.
        meter: what counts them.
    """

    def __init__(self, clients: Clients, meter: Meter) -> None:
        self.clients, self.meter = clients, meter
        self._counted: dict[Connection, Counts] = {}
        self._first = (0, 0, 0)

    def begin(self) -> None:
        """Measure from now on."""
        self.meter.record(True)
        self._counted = {peer: self.meter.of(peer) for peer in self.clients.open}
        self._first = self.meter.totals()

    def end(self) -> GroupMeasurement:
        """Return what was measured, of those that are still connected where it is by client."""
        last = self.meter.totals()
        counted = [self.meter.of(peer).since(self._counted[peer]) for peer in self.clients.open]
        numbered = self.meter.numbered(self.clients.open)
        found = GroupMeasurement(
            frames=last[0] - self._first[0],
            bytes=last[1] - self._first[1],
            sampled=last[2] - self._first[2],
            per_client=[each.frames for each in counted],
            latency=self.meter.times(),
            numbers=numbers_of(counted) if numbered else None,
            ended=dict(self.clients.ended_codes),
        )
        self.meter.record(False)
        return found
