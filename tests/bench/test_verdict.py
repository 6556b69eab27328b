"""The judgement of a trial and the party that limits, from recorded and made-up figures."""

from dataclasses import replace

import pytest

from fastws.bench.verdict import Limits, Report, Sample, Trial, judge, limited_by, slope

T0 = 1_770_000_000.0
FRAME = 58.0


def samples(
    rate: float = 10_000,
    taken: float | None = None,
    seconds: float = 4.0,
    *,
    published: float | None = None,
    reports: bool = False,
    sockets: bool = True,
    clients: int = 1,
) -> list[Sample]:
    """Ten samples a second of a client that takes `taken` of the `rate` that it is sent."""
    taken = rate if taken is None else taken
    published = rate if published is None else published
    found = []
    for tenth in range(int(10 * seconds) + 1):
        at = tenth / 10
        waiting = (published - taken) * at
        report = Report(T0 + int(at), taken * int(at), 1.5) if reports else None
        found.append(
            Sample(
                at=T0 + at,
                published=round(published * at),
                delivered=round(published * at),
                acknowledged=round(taken * at),
                connections=clients,
                unacknowledged=round(waiting * FRAME / 2) if sockets else None,
                unread=round(waiting * FRAME / 2) if sockets else None,
                window_limited=at * 0.5 if waiting else 0.0,
                server_cpu=at * 0.25,
                report=report,
            )
        )
    return found


@pytest.mark.parametrize(("reports", "sockets"), [(True, True), (False, True), (False, False)])
def test_a_client_that_keeps_up_is_good_by_every_source(reports: bool, sockets: bool) -> None:
    trial = judge(10_000, samples(reports=reports, sockets=sockets), Limits())
    assert trial.judgement == "good"
    assert trial.client_rate == pytest.approx(10_000, rel=1e-3)
    assert trial.published_rate == pytest.approx(10_000, rel=1e-3)
    assert trial.server_cpu == pytest.approx(0.25)


@pytest.mark.parametrize(("reports", "sockets"), [(True, True), (False, True), (False, False)])
def test_a_backlog_that_grows_is_bad_by_every_source(reports: bool, sockets: bool) -> None:
    trial = judge(10_000, samples(taken=9_800, reports=reports, sockets=sockets), Limits())
    assert trial.judgement == "bad"
    assert trial.client_rate == pytest.approx(9_800, rel=1e-3)
    assert trial.slope == pytest.approx(200, rel=0.02)
    assert "the backlog grew by" in trial.why


def test_a_slope_within_the_tolerance_is_flat() -> None:
    assert judge(10_000, samples(taken=9_900), Limits(tolerance=0.0125)).judgement == "good"


def test_a_backlog_that_stands_still_is_good() -> None:
    behind = [
        replace(each, acknowledged=each.acknowledged - 5_000, unacknowledged=5_000 * 58)
        for each in samples()
    ]
    assert judge(10_000, behind, Limits()).judgement == "good"


def test_the_clients_own_count_wins_over_what_its_kernel_took() -> None:
    """The kernel acknowledges everything, the program has read half of it."""
    hidden = [
        replace(each, report=Report(T0 + int(each.at - T0), 5_000 * int(each.at - T0), None))
        for each in samples()
    ]
    trial = judge(10_000, hidden, Limits())
    assert trial.judgement == "bad"
    assert trial.client_rate == pytest.approx(5_000)
    assert trial.p99_ms is None


def test_a_drop_makes_a_trial_bad() -> None:
    dropping = samples()
    dropping[-1] = replace(dropping[-1], dropped=3)
    trial = judge(10_000, dropping, Limits())
    assert (trial.judgement, trial.why) == ("bad", "3 messages dropped")


def test_p99_over_the_objective_makes_a_trial_bad() -> None:
    good = samples(reports=True)
    assert judge(10_000, good, Limits(slo_p99_ms=1.4)).judgement == "bad"
    assert judge(10_000, good, Limits(slo_p99_ms=1.6)).judgement == "good"


def test_a_late_generator_makes_a_trial_invalid() -> None:
    """Asked for 40,000,000 a second, the server published 2,900,000."""
    trial = judge(40_000_000, samples(40_000_000, 2_900_000, published=2_900_000), Limits())
    assert trial.judgement == "invalid"
    assert "the generator was late" in trial.why


def test_a_pause_before_the_last_report_is_no_backlog() -> None:
    """Recorded: 4,000 a second, and at the last of three reports 200 had yet to be counted."""

    def paused(seconds: float) -> list[Sample]:
        found = samples(4_000, seconds=seconds, reports=True)
        last = found[-1].report
        assert last is not None
        late = replace(last, total=last.total - 200)
        return [replace(s, report=late) if s.report == last else s for s in found]

    assert judge(4_000, paused(3.3), Limits()).judgement == "good"
    behind = samples(4_000, taken=3_940, seconds=20.0, reports=True)
    assert judge(4_000, behind, Limits()).judgement == "bad"


@pytest.mark.parametrize(("seconds", "judgement"), [(1.2, "good"), (4.0, "invalid")])
def test_a_server_that_publishes_in_bursts_is_not_late_in_a_short_trial(
    seconds: float, judgement: str
) -> None:
    trial = judge(64_000, samples(64_000, 62_700, seconds, published=62_700), Limits())
    assert trial.judgement == judgement


def test_two_messages_more_or_less_are_neither_late_nor_a_backlog() -> None:
    slow = samples(20, published=19.6, taken=19.2)
    assert judge(20, slow, Limits()).judgement == "good"
    assert judge(20, samples(20, taken=19.0), Limits()).judgement == "bad"


def test_ticks_left_out_make_a_trial_invalid() -> None:
    skipped = samples()
    skipped[-1] = replace(skipped[-1], missed=12)
    assert judge(10_000, skipped, Limits()).judgement == "invalid"


@pytest.mark.parametrize("connections", [0, 2])
def test_another_number_of_clients_makes_a_trial_invalid(connections: int) -> None:
    changed = samples()
    changed[7] = replace(changed[7], connections=connections)
    trial = judge(10_000, changed, Limits())
    assert (trial.judgement, trial.why) == (
        "invalid",
        f"{connections} clients were connected, not 1",
    )


def test_the_rate_counts_for_each_client() -> None:
    trial = judge(1_000, samples(100_000, clients=100), Limits(clients=100))
    assert trial.judgement == "good"


BAD = Trial(100_000, 4.0, "bad", window_limited=0.9, unread_share=0.8)
LATE = Trial(3_000_000, 4.0, "invalid")
# Recorded: the native client behind a link of 40 Mbit/s (tc tbf), offered a little too much.
BEHIND_A_LINK = Trial(
    rate=90_510,
    seconds=3.0,
    judgement="bad",
    slope=6_193.0,
    window_limited=0.0,
    unread_share=0.0,
    waiting=105_497.0,
)


@pytest.mark.parametrize(
    ("above", "capacity", "party"),
    [
        (None, 1e7, None),
        (BAD, 27e6, "client"),
        (BAD, None, "client"),
        # The program reads all that arrives, and still its own count lags: it queues by itself.
        (replace(BAD, window_limited=0.0, unread_share=None), 27e6, "client"),
        # Behind a slow link: the window is open, and what waits is in the server's sockets.
        (replace(BAD, window_limited=0.0, unread_share=0.0), 27e6, "network"),
        # On another host what is unread is not seen, but the window is.
        (replace(BAD, window_limited=0.6, unread_share=0.0), 27e6, "client"),
        # The generator is late where the calibrated server ends, or well before.
        (LATE, 2_900_000.0, "server"),
        (LATE, 27e6, "generator"),
        (LATE, None, "generator"),
        # A calibration through the same slow link says nothing about the server.
        (BEHIND_A_LINK, 84_014.0, "network"),
        (replace(BEHIND_A_LINK, unsent_slope=6_000.0), 84_014.0, "network"),
        # Ticks waited in the server although the sockets had room.
        (replace(BEHIND_A_LINK, unsent_slope=6_000.0, waiting=900.0), 84_014.0, "server"),
        # They waited in the client, which reads all and counts it later.
        (replace(BAD, unsent_slope=0.0, waiting=900.0), 27e6, "client"),
    ],
)
def test_the_party_that_limits(above: Trial | None, capacity: float | None, party: str) -> None:
    assert limited_by(above, 1, capacity) == party


@pytest.mark.parametrize(
    ("cpu", "party"),
    [
        # Recorded: held to a tenth of a core, in the calibration as well.
        (0.055, "server"),
        # Calibrated with a whole core, of which it got a twentieth after that.
        (0.95, "generator"),
    ],
)
def test_a_late_server_with_as_much_processor_time_as_before_is_at_its_limit(
    cpu: float, party: str
) -> None:
    late = replace(LATE, rate=1_350_000, server_cpu=0.05)
    assert limited_by(late, 1, 5_000_000, cpu) == party


def test_the_slope_is_that_of_the_least_squares_line() -> None:
    assert slope([(0, 1), (1, 3), (2, 5)]) == 2
    assert slope([(0, 0), (1, 1), (2, 0)]) == 0
    assert slope([(1, 1)]) == slope([]) == slope([(1, 1), (1, 2)]) == 0
