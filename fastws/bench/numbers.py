"""What became of the numbers that ticks carry as seq, over the connections of a run. Layer 5."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Counts(NamedTuple):
    """What was counted of one connection.

    Args:
        frames: data frames.
        bytes: of them, headers included.
        gaps: times that numbers were left out.
        missed: numbers that did not come.
        duplicates: numbers that came again.
        reordered: numbers that came behind greater ones.
    """

    frames: int = 0
    bytes: int = 0
    gaps: int = 0
    missed: int = 0
    duplicates: int = 0
    reordered: int = 0

    def since(self, then: "Counts") -> "Counts":
        """Return what was counted after that."""
        return Counts(*(now - before for now, before in zip(self, then, strict=True)))


NONE = Counts()


@dataclass(frozen=True, slots=True)
class Numbers:
    """Sums over the connections of a group, and the connection that missed most.

    Args:
        connections: of the group.
        missed: numbers that did not come.
        gaps: times that some were left out.
        missing: connections that missed any.
        worst: the counts of the one that missed most.
        duplicates: numbers that came again.
        reordered: numbers that came behind greater ones.
    """

    connections: int = 0
    missed: int = 0
    gaps: int = 0
    missing: int = 0
    worst: Counts = NONE
    duplicates: int = 0
    reordered: int = 0

    def __str__(self) -> str:
        if not self.missed:
            return "none: every client got every tick"
        ticks = "tick" if self.missed == 1 else "ticks"
        return (
            f"{self.missed:,} {ticks} missed in {self.gaps:,} gaps, by {self.missing:,} of "
            f"{self.connections:,} clients; the worst missed {self.worst.missed:,} in "
            f"{self.worst.gaps:,}"
        )

    def to_wire(self) -> dict[str, object]:
        """Return them for a result file."""
        return {
            "missed": self.missed,
            "gaps": self.gaps,
            "clients": self.missing,
            "worst": {"missed": self.worst.missed, "gaps": self.worst.gaps},
            "duplicates": self.duplicates,
            "reordered": self.reordered,
        }


def numbers_of(counted: Sequence[Counts]) -> Numbers:
    """Return the sums over connections."""
    return Numbers(
        connections=len(counted),
        missed=sum(each.missed for each in counted),
        gaps=sum(each.gaps for each in counted),
        missing=sum(each.missed > 0 for each in counted),
        worst=max(counted, key=lambda each: (each.missed, each.gaps), default=NONE),
        duplicates=sum(each.duplicates for each in counted),
        reordered=sum(each.reordered for each in counted),
    )
