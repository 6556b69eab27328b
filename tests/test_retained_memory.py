"""What retained messages take of the budget of all logs."""

from support import Rig

TOPICS = 1000
MESSAGES = 200  # to each of them: more than the largest piece of a log holds in small ones
KIB = 1024


def test_a_retained_message_takes_little_however_many_went_by() -> None:
    with Rig(max_log_bytes=TOPICS * 2 * KIB) as rig:
        topics = [rig.engine.topic(f"t{i}", retain=True) for i in range(TOPICS)]
        for number in range(MESSAGES):
            for topic in topics:
                topic.publish(f"{number}".ljust(100))
            rig.engine.turn()
        retained = [topic.retained for topic in topics]
        assert {each and each.seq for each in retained} == {MESSAGES - 1}
