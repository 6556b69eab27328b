"""The search for a ceiling, on model clients whose ceiling is known."""

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from fastws.bench.search import CURVE, Found, Plan, Search, curve
from fastws.bench.verdict import Trial

PLAN = Plan(precision=0.05, seconds=600.0)
ONCE = replace(PLAN, repetitions=0)


class Model:
    """A client that takes `ceiling` a second, measured with noise; the generator has a limit.

    Args:
        ceiling: messages a second.
        noise: standard deviation of the slope of one second, as a share of the rate.
        jitter: the same of the ceiling.
        generator: rates above it are published late.
        lost: share of trials that are invalid for no reason of theirs.
    """

    def __init__(
        self,
        ceiling: float,
        noise: float = 0.0,
        generator: float = 1e12,
        lost: float = 0.0,
        jitter: float = 0.0,
        seed: int = 1,
    ) -> None:
        self.ceiling, self.noise, self.generator, self.lost = ceiling, noise, generator, lost
        self.jitter = jitter
        self.tried: list[tuple[int, float]] = []
        self._random = random.Random(seed)

    def __call__(self, rate: int, seconds: float) -> Trial:
        self.tried.append((rate, seconds))
        if rate > self.generator or self._random.random() < self.lost:
            return Trial(rate, seconds, "invalid", elapsed=seconds + 1)
        error = self._random.gauss(0, self.noise) / seconds
        now = 1 + self._random.gauss(0, self.jitter) / seconds**0.5
        taken = min(rate, self.ceiling * now) * (1 + error)
        judgement = "bad" if rate - taken > 0.0125 * rate else "good"
        return Trial(
            rate=rate,
            seconds=seconds,
            judgement=judgement,  # type: ignore[arg-type]
            published_rate=rate,
            client_rate=taken,
            elapsed=seconds + 1,
        )


@pytest.mark.parametrize("ceiling", [1, 7, 300, 999, 1001, 186_000, 987_000, 30_000_000])
def test_a_known_ceiling_is_found_within_the_precision(ceiling: int) -> None:
    found = Search(Model(ceiling), PLAN).run()
    assert found.confirmed
    assert ceiling / 1.05 - 1 <= found.ceiling <= ceiling * 1.0127
    assert found.high is not None
    assert found.ceiling < found.high.rate <= max(found.ceiling * 1.05, found.ceiling + 1)


@pytest.mark.parametrize("seed", range(20))
def test_noise_of_single_trials_is_tolerated(seed: int) -> None:
    found = Search(Model(500_000, noise=0.02, seed=seed), PLAN).run()
    assert found.confirmed
    assert 500_000 / 1.07 <= found.ceiling <= 500_000 * 1.02


@pytest.mark.parametrize("seed", range(10))
def test_invalid_trials_are_repeated_and_judge_nobody(seed: int) -> None:
    found = Search(Model(40_000, lost=0.1, seed=seed), Plan(precision=0.05, seconds=900)).run()
    assert found.ceiling <= 40_000 * 1.0127
    if found.high is not None and found.high.judgement == "bad":
        assert found.ceiling >= 40_000 / 1.06


def test_where_the_generator_ends_the_upper_trial_is_invalid() -> None:
    found = Search(Model(10**9, generator=3_000_000), PLAN).run()
    assert found.confirmed
    assert 3_000_000 / 1.05 <= found.ceiling <= 3_000_000
    assert found.high is not None
    assert found.high.judgement == "invalid"
    assert found.saturated_rate is None


def test_a_client_that_takes_every_rate_is_confirmed_at_the_limit() -> None:
    found = Search(Model(10**9), Plan(limit=100_000)).run()
    assert (found.ceiling, found.high, found.confirmed) == (100_000, None, True)


def test_a_client_that_takes_nothing_has_no_ceiling() -> None:
    found = Search(Model(0.0), PLAN).run()
    assert (found.ceiling, found.low, found.confirmed) == (0, None, False)


def test_the_rate_in_overload_is_kept() -> None:
    found = Search(Model(20_000), PLAN).run()
    assert found.saturated_rate == 20_000


def test_the_rate_in_overload_is_tried_before_the_middle() -> None:
    model = Model(420)
    Search(model, ONCE).run()
    assert [rate for rate, _ in model.tried][:3] == [1000, 250, 413]
    assert len(model.tried) <= 8


def test_trials_grow_and_the_last_is_the_confirmation() -> None:
    model = Model(987_000)
    Search(model, ONCE).run()
    assert model.tried[-1][1] == PLAN.confirmation
    lengths = [seconds for _, seconds in model.tried[:-1]]
    assert lengths[0] == PLAN.shortest
    assert max(lengths) > 2 * PLAN.shortest


def test_a_lower_end_that_fails_its_confirmation_is_given_up() -> None:
    model = Model(50_000)
    slow = Model(45_000)
    phases: list[str] = []

    def tires(rate: int, seconds: float) -> Trial:
        return (slow if seconds == PLAN.confirmation else model)(rate, seconds)

    found = Search(tires, ONCE, phases.append).run()
    assert found.confirmed
    assert found.ceiling <= 45_000 * 1.0127
    assert phases[:3] == ["searching", "confirming", "searching"]
    assert phases[-1] == "confirming"


@pytest.mark.parametrize("seed", range(10))
def test_a_client_that_stalls_now_and_then_is_found_by_longer_trials(seed: int) -> None:
    """What it takes in 3 s varies by a tenth: a good trial is often luck."""
    found = Search(Model(40_000, jitter=0.17, seed=seed), PLAN).run()
    assert found.confirmed
    assert 34_000 <= found.ceiling <= 43_000
    assert len([each for each in found.trials if each.seconds == PLAN.confirmation]) <= 6


def test_good_rates_above_what_a_failed_confirmation_took_are_given_up() -> None:
    """It takes 45,800 a second for a while, and 39,500 in the long run."""
    fresh, tired = Model(45_800), Model(39_500)

    def tires(rate: int, seconds: float) -> Trial:
        return (tired if seconds > 10 else fresh)(rate, seconds)

    found = Search(tires, replace(PLAN, confirmation=30.0, seconds=225.0)).run()
    assert found.confirmed
    assert 39_500 / 1.05 <= found.ceiling <= 39_500 * 1.0127
    assert len([each for each in found.trials if each.seconds == 30.0]) <= 3


def test_an_invalid_repetition_moves_no_end() -> None:
    model = Model(50_000)

    def disturbed(rate: int, seconds: float) -> Trial:
        trial = model(rate, seconds)
        return replace(trial, judgement="invalid") if seconds == PLAN.confirmation / 2 else trial

    found = Search(disturbed, PLAN).run()
    assert found.confirmed
    assert 50_000 / 1.05 <= found.ceiling <= 50_000 * 1.0127
    assert found.high is not None
    assert found.high.judgement == "bad"


def test_a_ceiling_of_a_few_messages_is_repeated_as_well() -> None:
    calm, tired = Model(7), Model(4)

    def tires(rate: int, seconds: float) -> Trial:
        return (tired if seconds == PLAN.confirmation / 2 else calm)(rate, seconds)

    found = Search(tires, PLAN).run()
    assert (found.ceiling, found.confirmed) == (4, True)


class Drifting(Model):
    """A client whose ceiling moves up and down by a share of it within a period, seconds."""

    def __init__(self, ceiling: float, share: float, period: float, phase: float) -> None:
        super().__init__(ceiling)
        self.now, self._middle, self._share, self._period = phase * period, ceiling, share, period

    def __call__(self, rate: int, seconds: float) -> Trial:
        begun, self.now = self.now, self.now + seconds + 1
        turn = 2 * math.pi / self._period
        mean = (math.cos(begun * turn) - math.cos(self.now * turn)) / (self.now - begun) / turn
        self.ceiling = self._middle * (1 + self._share * mean)
        return super().__call__(rate, seconds)


@pytest.mark.parametrize("period", [80.0, 130.0, 210.0])
def test_two_runs_of_a_client_that_changes_its_pace_agree(period: float) -> None:
    """Each is exact for its half a minute; repeated trials say how far that holds."""
    plan = replace(PLAN, seconds=300.0)
    found = [Search(Drifting(5_000_000, 0.04, period, phase / 8), plan).run() for phase in range(8)]
    assert all(each.confirmed for each in found)
    highs = [each.high.rate for each in found if each.high is not None]
    assert max(each.ceiling for each in found) <= min(highs)
    assert all(each.ceiling >= 5_000_000 * 0.96 / 1.06 for each in found)
    assert all(high <= 5_000_000 * 1.04 * 1.06 for high in highs)


def test_where_the_upper_end_is_good_when_it_is_repeated_the_search_goes_on_above() -> None:
    """Until its first long trial something held the client up."""
    long: list[float] = []

    def held_up(rate: int, seconds: float) -> Trial:
        trial = Model(90_000 if long else 60_000)(rate, seconds)
        long.extend([seconds] if seconds == PLAN.confirmation else [])
        return trial

    found = Search(held_up, PLAN).run()
    assert found.confirmed
    assert 90_000 / 1.05 <= found.ceiling <= 90_000 * 1.0127
    assert found.high is not None
    assert 90_000 <= found.high.rate <= 90_000 * 1.07


@pytest.mark.parametrize("budget", [5.0, 20.0, 60.0])
def test_the_budget_is_kept(budget: float) -> None:
    search = Search(Model(300_000), Plan(seconds=budget, confirmation=10.0))
    found = search.run()
    assert search.spent <= budget + 5
    assert found.ceiling <= 300_000 * 1.0127


def test_an_interrupted_search_says_what_it_knows() -> None:
    model = Model(50_000)

    def interrupted(rate: int, seconds: float) -> Trial:
        if len(model.tried) == 5:
            raise KeyboardInterrupt
        return model(rate, seconds)

    search = Search(interrupted, PLAN)
    with pytest.raises(KeyboardInterrupt):
        search.run()
    assert 0 < search.found.ceiling <= 50_000 * 1.0127
    assert not search.found.confirmed


def found_with(model: Callable[[int, float], Trial]) -> Found:
    return Search(model, PLAN).run()


def test_a_client_that_takes_more_in_overload_than_it_sustains_is_halved_down_to() -> None:
    """It stalls now and then: bad above 400,000, with 900,000 a second in overload."""
    model = Model(900_000)

    def stalls(rate: int, seconds: float) -> Trial:
        trial = model(rate, seconds)
        bad = rate > 400_000
        return replace(trial, judgement="bad", dropped=9) if bad else trial

    found = Search(stalls, ONCE).run()
    assert found.confirmed
    assert 400_000 / 1.05 <= found.ceiling <= 400_000
    assert len(model.tried) < 30


def test_the_curve_has_ten_points_and_uses_trials_that_are_there() -> None:
    model = Model(50_000)
    found = found_with(model)
    tried = len(model.tried)
    points = curve(found, model, 3.0, 1000.0)
    assert len(points) == len(CURVE)
    assert [each.rate for each in points] == sorted(each.rate for each in points)
    assert len(model.tried) - tried < len(CURVE)
    assert len(curve(found, model, 3.0, 0.0)) < len(CURVE)
