"""Searches for the highest rate that trials find good. Layer 5: pure, no clock.

Rates are tried in log space: fourfold steps until one is bad, then the saturated rate of that
trial as a guess, then halving. Trials grow as the interval shrinks, because a small overload takes
longer to show. The time that counts is what the trials say they took.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from fastws.bench.verdict import Trial
from fastws.ticks.config import MAX_RATE

TryRate = Callable[[int, float], Trial]  # rate of one client, seconds to judge
Phase = Literal["searching", "confirming", "repeating"]

RAMP = 4
NEARLY = 0.9  # of what was published: a bad trial this near is repeated, it may be noise
RETRIES = 1  # of an invalid trial
LONGER = 4.0  # trials at the end of the search, times the shortest
LEAST_CONFIRMATION = 1 / 3  # of the planned time; less would confirm nothing
REPEATED = 1 / 2  # of it: a repetition of either end
OVERHEAD = 2.0  # seconds of draining and settling that a trial is planned with
CURVE = (0.1, 0.25, 0.5, 0.7, 0.85, 0.95, 1.0, 1.1, 1.3, 1.6)  # of the ceiling


@dataclass(frozen=True, slots=True)
class Plan:
    """How to search.

    Args:
        precision: the interval is narrow enough when it is so wide, as a share of the rate.
        start: rate of the first trial.
        limit: no higher rate is tried.
        seconds: time for the search and the confirmation.
        shortest: seconds of the first trials.
        confirmation: seconds of the last one.
        clients: connections that the rate goes to.
        repetitions: how often both ends are tried again at most.
    """

    precision: float = 0.05
    start: int = 1000
    limit: int = MAX_RATE
    seconds: float = 120.0
    shortest: float = 3.2
    confirmation: float = 30.0
    clients: int = 1
    repetitions: int = 4


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of the ceiling.

    Args:
        low: the trial at the highest rate that was good, a confirmed one if there is one; it was
            good each time that it was repeated.
        high: the trial at the lowest rate above it that was not, neither when it was repeated;
            None: the limit was good.
        confirmed: whether `low` is the long trial.
        trials: all of them, in order.
    """

    low: Trial | None
    high: Trial | None
    confirmed: bool
    trials: Sequence[Trial]

    @property
    def ceiling(self) -> int:
        """The highest rate that was sustained; 0: none was."""
        return self.low.rate if self.low else 0

    @property
    def saturated_rate(self) -> float | None:
        """What the client took in the strongest overload, all connections; None: there was none."""
        bad = [each for each in self.trials if each.judgement == "bad"]
        return max(bad, key=lambda each: each.rate).client_rate if bad else None


class Search:
    """One search; `found` may be read at any time, also when a trial raised.

    Args:
        try_rate: tries a rate.
        plan: how far and how long.
        begin: called with the phase when one begins.
    """

    def __init__(
        self, try_rate: TryRate, plan: Plan, begin: Callable[[Phase], None] = lambda _: None
    ) -> None:
        self._try_rate = try_rate
        self._plan = plan
        self._begin = begin
        self._trials: list[Trial] = []
        self._good: list[Trial] = []  # those that no longer trial has called into question
        self._shortest = plan.shortest
        self._again = REPEATED * plan.confirmation  # seconds of a repetition
        self._low: Trial | None = None
        self._high: Trial | None = None
        self._confirmed: Trial | None = None
        self._guesses: list[float] = []
        self._saturated = 0.0  # the guesses' base, messages a second of one client
        self.spent = 0.0

    @property
    def found(self) -> Found:
        """What is known so far."""
        confirmed = self._low is not None and self._low is self._confirmed
        return Found(self._low, self._high, confirmed, tuple(self._trials))

    def run(self) -> Found:
        """Search until the interval is narrow and its lower end confirmed; repeat both ends."""
        self._begin("searching")
        self._ascend(self._plan.start)
        self._descend()
        self._settle()
        for _ in range(self._plan.repetitions):
            pair = 2 * (self._again + OVERHEAD)
            if not self.found.confirmed or self._high is None or not self._has_time(pair):
                break
            self._repeat()
        return self.found

    def _settle(self) -> None:
        """Narrow the interval and confirm its lower end."""
        while self._low is not None:
            reserve = self._plan.confirmation + OVERHEAD
            if not self._is_narrow() and self._has_time(self._seconds() + OVERHEAD + reserve):
                self._narrow()
            elif self._confirmed is not self._low and self._has_time(self._least_confirmation()):
                self._confirm()
                self._descend()
            else:
                break

    def _has_time(self, seconds: float) -> bool:
        return self.spent + seconds <= self._plan.seconds

    def _ascend(self, rate: int) -> None:
        """Find a rate that is not good, in fourfold steps."""
        rate = min(rate, self._plan.limit)
        while self._high is None and self._has_time(self._plan.shortest):
            self._note(self._repeated(rate, self._plan.shortest))
            if rate == self._plan.limit:
                break
            rate = min(rate * RAMP, self._plan.limit)

    def _descend(self) -> None:
        """Where no rate was good, or none of them is believed any more, find one below."""
        rate = self._plan.start
        while self._low is None and rate > 1 and self._has_time(self._plan.shortest):
            rate = max(1, (self._high.rate if self._high else rate) // RAMP)
            self._note(self._repeated(rate, self._plan.shortest))

    def _narrow(self) -> None:
        self._note(self._repeated(self._next_rate(), self._seconds()))

    def _repeated(self, rate: int, seconds: float) -> Trial:
        """Try a rate; where it was bad by little, which may be noise, two of three decide."""
        trial = self._attempt(rate, seconds)
        if not _is_marginal(trial) or not self._has_time(seconds + self._plan.confirmation):
            return trial
        again = self._attempt(rate, seconds)
        return again if again.judgement == trial.judgement else self._attempt(rate, seconds)

    def _confirm(self) -> None:
        """Try the lower end for long; if it is bad after all, search below it."""
        assert self._low is not None
        self._begin("confirming")
        left = self._plan.seconds - self.spent - OVERHEAD
        seconds = max(self._least_confirmation(), min(self._plan.confirmation, left))
        trial = self._attempt(self._low.rate, seconds)
        self._note(trial)
        if trial.judgement == "good":
            self._confirmed = trial
        else:
            self._begin("searching")
            self._doubt(trial)

    def _repeat(self) -> None:
        """Try both ends again, and move those apart that do not hold.

        What else the machine does changes the client's pace within minutes: one that was measured
        for half a minute is exact, and yet another one the next time.
        """
        self._begin("repeating")
        self._raise_high()
        if self._high is None and self._low is not None:  # it was never too high
            self._begin("searching")
            self._ascend(self._low.rate * RAMP)
            self._settle()
        else:
            self._lower_low()
            self._descend()

    def _raise_high(self) -> None:
        """Try the upper end again, and higher rates as long as they are good."""
        assert self._high is not None
        trial = self._attempt(self._high.rate, self._again)
        while trial.judgement == "good":
            known = [t for t in self._trials if t.judgement != "good" and t.rate > trial.rate]
            self._high = min(known, key=lambda each: each.rate, default=None)
            rate = max(trial.rate + 1, round(trial.rate * (1 + self._plan.precision)))
            if self._high is None:
                self._low = self._confirmed = trial
                return
            if rate >= self._high.rate or not self._has_time(self._again):
                return
            trial = self._attempt(rate, self._again)
        if trial.judgement == "bad":
            self._high = trial

    def _lower_low(self) -> None:
        """Try the lower end again, and lower rates as long as they are bad."""
        assert self._low is not None
        trial = self._attempt(self._low.rate, self._again)
        if trial.judgement != "bad":
            return
        while trial.rate > 1 and self._has_time(self._again):
            rate = min(trial.rate - 1, round(trial.rate / (1 + self._plan.precision)))
            trial = self._attempt(rate, self._again)
            if trial.judgement == "good":
                self._low = self._confirmed = trial
                return
        self._fall_below(trial.rate)

    def _doubt(self, failed: Trial) -> None:
        """After a confirmation that failed, believe less in what shorter trials said.

        The client stalls now and then, or grows tired: a rate above what it took all that time is
        not sustained, though a few seconds of it were good. Trials are twice as long from here on.
        """
        if failed.judgement != "bad":
            return
        sustained = failed.client_rate / self._plan.clients
        self._good = [
            each
            for each in self._good
            if each.rate <= sustained or each.seconds >= failed.seconds  # it was cut short
        ]
        self._shortest = min(2 * self._shortest, self._plan.confirmation)
        self._fall_below(failed.rate)

    def _fall_below(self, rate: int) -> None:
        below = [each for each in self._good if each.rate < rate]
        self._low = max(below, key=lambda each: each.rate, default=None)

    def _attempt(self, rate: int, seconds: float) -> Trial:
        """Try a rate; an invalid trial is repeated once, because it says nothing."""
        for _ in range(1 + RETRIES):
            trial = self._try_rate(rate, seconds)
            self._trials.append(trial)
            self.spent += trial.elapsed
            if trial.judgement != "invalid":
                break
        return trial

    def _note(self, trial: Trial) -> None:
        """Move an end of the interval to the trial."""
        if trial.judgement == "good":
            self._low = trial
            self._good.append(trial)
            return
        self._high = trial
        self._guess(trial)
        if self._low is not None and self._low.rate >= trial.rate:
            self._fall_below(trial.rate)

    def _guess(self, trial: Trial) -> None:
        """Take the client's rate in a bad trial for its ceiling.

        A client that failed below such a rate takes more in overload than it sustains: its
        rate says nothing then.
        """
        self._guesses = []
        if trial.judgement != "bad" or trial.rate < self._saturated:
            return
        guess = self._saturated = trial.client_rate / self._plan.clients
        third = self._plan.precision / 3
        self._guesses = [guess * (1 + share * third) for share in (-1, 1, 3.5)]

    def _least_confirmation(self) -> float:
        return max(self._plan.shortest, LEAST_CONFIRMATION * self._plan.confirmation)

    def _ends(self) -> tuple[int, int]:
        assert self._low is not None
        assert self._high is not None
        return self._low.rate, self._high.rate

    def _is_narrow(self) -> bool:
        if self._high is None:
            return True
        low, high = self._ends()
        return high <= low * (1 + self._plan.precision) or high - low <= 1

    def _next_rate(self) -> int:
        """Return a rate inside the interval: a guess if one lies there, else its middle."""
        low, high = self._ends()
        while self._guesses:
            guess = round(self._guesses.pop(0))
            if low < guess < high:
                return guess
        return min(max(round(math.sqrt(low * high)), low + 1), high - 1)

    def _seconds(self) -> float:
        """Return how long the next trial takes: the longer, the narrower the interval."""
        if self._high is None:
            return self._shortest
        low, high = self._ends()
        factor = 0.25 / max(math.log(high / low), 1e-9)
        return self._shortest * max(1.0, min(LONGER, math.sqrt(factor)))


def _is_marginal(trial: Trial) -> bool:
    return trial.judgement == "bad" and trial.client_rate > NEARLY * trial.published_rate


def curve(
    found: Found, try_rate: TryRate, seconds: float, budget: float, limit: int = MAX_RATE
) -> list[Trial]:
    """Return trials at about ten rates around the ceiling, ascending.

    Args:
        found: the ceiling; a trial of its search that is near serves as a point.
        try_rate: tries a rate.
        seconds: of each new trial.
        budget: seconds for all of them; points that do not fit are left out.
        limit: no higher rate is tried.
    """
    points: dict[int, Trial] = {}
    spent = 0.0
    valid = [each for each in found.trials if each.judgement != "invalid"]
    for share in CURVE:
        rate = round(share * found.ceiling)
        if not 0 < rate <= limit:
            continue
        known = [each for each in valid if abs(each.rate - rate) <= 0.02 * rate]
        if known:
            best = max(known, key=lambda each: each.seconds)
        elif spent + seconds > budget:
            continue
        else:
            best = try_rate(rate, seconds)
            spent += best.elapsed
        points[best.rate] = best
    return [points[rate] for rate in sorted(points) if points[rate].judgement != "invalid"]
