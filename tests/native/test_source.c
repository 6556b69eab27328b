/* The built-in source under a fake clock: exact counts, due times, standing still, bounds. */
#include <math.h>

#include "conn_fixture.h"
#include "core/source.h"

#define SECOND 1000000000ULL
#define REAL (1769951234ULL * SECOND) /* of the real clock when the other one says 0 */

static fws_topics topics;
static fws_topic *topic;
static fws_source source;
static fws_conn conns[3];
static uint64_t eseq;

static void begin_within(uint64_t most, uint8_t on_slow, uint64_t max_lag, enum fws_late late)
{
    const fws_topic_options options = {
        .retention_bytes = 1 << 22, .max_lag_bytes = max_lag, .on_slow = on_slow};
    memset(conns, 0, sizeof conns);
    eseq = 0;
    fws_topics_init(&topics, NULL, most, 1);
    topic = fws_topics_get(&topics, "ticks", 5, &options);
    CHECK(topic != NULL);
    topic->configured = true;
    source = (fws_source){0};
    fws_source_init(&source, topic, 1, FWS_TICK_BINARY, FWS_TICK_SEQ, late);
}

static void begin(uint8_t on_slow, uint64_t max_lag, enum fws_late late)
{
    begin_within(0, on_slow, max_lag, late);
}

static void end(void)
{
    check_account(topic);
    CHECK_EQ(eseq, topic->log.next_seq);
    for (int i = 0; i < 3; i++)
        strip(&conns[i]);
    wake_all(&topics);
    CHECK(fws_topics_collect(&topics) == NULL);
    fws_topics_clear(&topics);
}

static uint64_t run(uint64_t now)
{
    return fws_source_run(&source, now, REAL + now, &eseq);
}

/* Runs until nothing is due at that time any more. */
static uint64_t run_out(uint64_t now)
{
    uint64_t count = 0, more;
    while ((more = run(now)) > 0)
        count += more;
    return count;
}

static void deliver(fws_conn *conn)
{
    static fws_plan plan;
    wake_all(&topics);
    while (fws_conn_pending(conn)) {
        CHECK_EQ(fws_gather(conn, &plan, UINT64_MAX), FWS_OK);
        fws_commit(conn, &plan, plan.bytes);
    }
}

static void test_counts_are_exact_at_every_rate(void)
{
    const uint64_t rates[] = {1, 3, 7, 600, 1500, 333333, 1000000, 3000000};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        uint64_t random = i, start = 12345, now = start, sent = 0, rate = rates[i];
        uint64_t stop = start + 3 * SECOND;
        begin(FWS_SLOW_LATEST, 1 << 22, FWS_LATE_BURST);
        fws_topic_join(topic, &conns[0], NULL);
        fws_source_set_rate(&source, now, rate, false);
        CHECK_EQ(run(now), 0);
        while (now < stop) {
            now += 1 + test_random(&random) % 3000000;
            now = now < stop ? now : stop;
            sent += run_out(now);
            CHECK_EQ(sent, (now - start) * rate / SECOND); /* never early, none lost */
        }
        CHECK_EQ(sent, 3 * rate);
        CHECK_EQ(topic->log.next_seq, sent);
        CHECK_EQ(source.pace.missed, 0);
        if (rate <= 1000000) /* else samples fall between the parts of a batch */
            CHECK(fabs(fws_pace_slope_ppm(&source.pace)) < 1e-9);
        end();
    }
}

static uint64_t le64(const uint8_t *at)
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--)
        value = value << 8 | at[i];
    return value;
}

static void test_every_tick_carries_its_due_time_and_number(void)
{
    const uint64_t rate = 7777;
    begin(FWS_SLOW_LATEST, 1 << 22, FWS_LATE_BURST);
    fws_topic_join(topic, &conns[0], NULL);
    fws_source_set_rate(&source, 1000, rate, false);
    run(1000);
    uint64_t now = 1000, random = 9, seen = 0;
    while (now < SECOND) {
        now += test_random(&random) % 9000000;
        run_out(now);
        for (; seen < topic->log.next_seq; seen++) {
            const fws_slab *slab = fws_log_slab(&topic->log, seen, 0);
            const uint8_t *frame =
                slab->data + fws_slab_start(slab, (uint32_t)(seen - slab->base_seq));
            uint64_t due = 1000 + ((seen + 1) * SECOND + rate - 1) / rate;
            CHECK_EQ(frame[1], 36);
            CHECK_EQ(le64(frame + 2 + 28), REAL + due);
            CHECK_EQ(le64(frame + 2 + 12), (REAL + due) / 1000000);
            CHECK_EQ(le64(frame + 2 + 20), seen);
        }
    }
    CHECK_EQ(seen, (now - 1000) * rate / SECOND);
    end();
}

static void test_a_feed_without_members_stands_still(void)
{
    begin(FWS_SLOW_LATEST, 1 << 22, FWS_LATE_BURST);
    fws_source_set_rate(&source, 0, 1000, false);
    CHECK_EQ(run(5 * SECOND), 0);
    CHECK_EQ(fws_source_next(&source, 5 * SECOND), UINT64_MAX);
    fws_source_set_rate(&source, 7 * SECOND, 2000, false);
    fws_topic_join(topic, &conns[0], NULL);
    CHECK_EQ(run(10 * SECOND), 0); /* the first listener starts it */
    CHECK_EQ(fws_source_next(&source, 10 * SECOND), 10 * SECOND + SECOND / 2000);
    CHECK_EQ(run_out(11 * SECOND), 2000);
    CHECK_EQ(source.pace.missed, 0);
    deliver(&conns[0]);
    fws_topic_leave(fws_conn_find_sub(&conns[0], topic));
    CHECK_EQ(fws_source_next(&source, 11 * SECOND), UINT64_MAX);
    CHECK_EQ(run(20 * SECOND), 0);
    fws_topic_join(topic, &conns[0], NULL);
    CHECK_EQ(run(30 * SECOND), 0);
    CHECK_EQ(run_out(31 * SECOND), 2000);
    CHECK_EQ(source.pace.missed, 0); /* nobody missed what nobody asked for */
    end();
}

static void test_a_change_of_rate_starts_anew(void)
{
    begin(FWS_SLOW_LATEST, 1 << 22, FWS_LATE_BURST);
    fws_topic_join(topic, &conns[0], NULL);
    fws_source_set_rate(&source, 0, 1000, false);
    run(0);
    CHECK_EQ(run_out(SECOND), 1000);
    fws_source_set_rate(&source, SECOND, 0, false);
    CHECK_EQ(run(2 * SECOND), 0);
    CHECK_EQ(fws_source_next(&source, 2 * SECOND), UINT64_MAX);
    fws_source_set_rate(&source, 2 * SECOND, 3, false);
    CHECK_EQ(fws_source_next(&source, 2 * SECOND), 2 * SECOND + 333333334);
    CHECK_EQ(run(2 * SECOND + 333333333), 0);
    CHECK_EQ(run(2 * SECOND + 333333334), 1);
    end();
}

static void test_a_batch_is_bounded_and_the_rest_follows_at_once(void)
{
    begin(FWS_SLOW_LATEST, 1 << 22, FWS_LATE_BURST);
    fws_topic_join(topic, &conns[0], NULL);
    fws_source_set_rate(&source, 0, 1000000, false);
    run(0);
    uint64_t first = run(SECOND);
    CHECK(first * 38 >= FWS_SOURCE_BATCH && first * 38 < FWS_SOURCE_BATCH + 38);
    CHECK(fws_source_next(&source, SECOND) <= SECOND);
    CHECK_EQ(first + run_out(SECOND), 1000000);
    CHECK(fws_source_next(&source, SECOND) > SECOND);
    end();
}

static void test_max_is_bounded_by_the_slowest_member(void)
{
    begin(FWS_SLOW_LOSSLESS, 100000, FWS_LATE_BURST);
    fws_source_set_rate(&source, 0, 0, true);
    CHECK_EQ(run(1), 0);
    fws_topic_join(topic, &conns[0], NULL);
    fws_topic_join(topic, &conns[1], NULL);
    CHECK_EQ(fws_source_next(&source, 2), 0);
    uint64_t count = run_out(2);
    CHECK(count * 38 <= 100000 && count * 38 > 100000 - FWS_TICK_MAX);
    CHECK_EQ(fws_source_next(&source, 2), UINT64_MAX);
    deliver(&conns[0]);
    CHECK_EQ(run(3), 0);
    CHECK_EQ(fws_source_next(&source, 3), UINT64_MAX);
    deliver(&conns[1]);
    CHECK_EQ(fws_source_next(&source, 3), 0);
    CHECK_EQ(run_out(3), count);
    end();
}

/* The log has what was written one by one, wherever its slabs end. */
static void test_max_writes_the_ticks_of_the_seed(void)
{
    const enum fws_tick_fields fields[] = {FWS_TICK_BASE, FWS_TICK_SEQ, FWS_TICK_QUOTE};
    for (int kind = 0; kind < 6; kind++) {
        static fws_ticks twin;
        uint8_t expected[FWS_TICK_MAX];
        uint64_t seen = 0;
        begin(FWS_SLOW_LOSSLESS, 1 << 20, FWS_LATE_BURST);
        fws_source_init(&source, topic, 7, (enum fws_tick_format)(kind % 2), fields[kind / 2],
                        FWS_LATE_BURST);
        fws_ticks_init(&twin, 7, (enum fws_tick_format)(kind % 2), fields[kind / 2]);
        fws_topic_join(topic, &conns[0], NULL);
        fws_source_set_rate(&source, 0, 0, true);
        for (uint64_t now = 1; run(now) > 0; now++) {
            for (; seen < topic->log.next_seq; seen++) {
                const fws_slab *slab = fws_log_slab(&topic->log, seen, 0);
                uint32_t i = (uint32_t)(seen - slab->base_seq), at = fws_slab_start(slab, i);
                size_t size = fws_tick_write(&twin, expected, REAL + now, seen);
                CHECK_EQ(slab->end[i] - at, size);
                CHECK(memcmp(slab->data + at, expected, size) == 0);
                CHECK_EQ(fws_slab_eseq(slab, i), seen + 1);
            }
        }
        CHECK(topic->log.head > 10);
        end();
    }
}

static void test_next_and_run_agree_on_the_last_byte_of_room(void)
{
    for (uint64_t lag = FWS_TICK_MAX - 1; lag <= FWS_TICK_MAX + 1; lag++) {
        begin(FWS_SLOW_LOSSLESS, lag, FWS_LATE_BURST);
        fws_topic_join(topic, &conns[0], NULL);
        fws_source_set_rate(&source, 0, 0, true);
        bool wanted = fws_source_next(&source, 1) == 0;
        CHECK_EQ(wanted, run(1) > 0);
        end();
    }
}

static void test_a_paced_feed_without_room_waits_for_a_socket(void)
{
    begin(FWS_SLOW_LOSSLESS, 1000, FWS_LATE_BURST);
    fws_topic_join(topic, &conns[0], NULL);
    fws_source_set_rate(&source, 0, 1000, false);
    run(0);
    uint64_t count = run_out(SECOND);
    CHECK(count < 1000 / 38);
    CHECK_EQ(fws_source_next(&source, SECOND), UINT64_MAX); /* and not again and again at once */
    for (uint64_t total = count; total < 1000; total += count) {
        deliver(&conns[0]);
        CHECK(fws_source_next(&source, SECOND) <= SECOND + FWS_PACE_QUANTUM_NS);
        count = run_out(SECOND);
        CHECK(count > 0);
    }
    CHECK_EQ(topic->log.next_seq, 1000);
    CHECK_EQ(source.pace.missed, 0);
    end();
}

static void test_late_ticks_may_be_skipped_and_are_counted(void)
{
    begin(FWS_SLOW_LATEST, 1 << 22, FWS_LATE_SKIP);
    fws_topic_join(topic, &conns[0], NULL);
    fws_source_set_rate(&source, 0, 1000, false);
    run(0);
    uint64_t sent = run_out(SECOND);
    CHECK_EQ(sent + source.pace.missed, 1000);
    CHECK(sent >= 10 && sent <= 12);
    end();
}

/* Its subscribers are woken as by any publish, and what all of them have is let go. */
static void test_ticks_are_published(void)
{
    begin(FWS_SLOW_LATEST, 1 << 22, FWS_LATE_BURST);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    fws_topic_join(topic, &conns[1], NULL);
    fws_source_set_rate(&source, 0, 1000, false);
    run(0);
    CHECK(topics.dirty == NULL); /* none was due */
    CHECK_EQ(run_out(SECOND), 1000);
    CHECK(topics.dirty == topic);
    CHECK_EQ(topic->dirty_eseq, 1);
    CHECK_EQ(topic->account.published, 2000);
    deliver(&conns[0]);
    deliver(&conns[1]);
    CHECK_EQ(fws_sub_snapshot(sub, 0).delivered, 1000);
    CHECK_EQ(topics.logs.bytes, 0);
    end();
}

static void test_the_budget_of_all_logs_holds_for_ticks(void)
{
    begin_within(200000, FWS_SLOW_LOSSLESS, 1 << 22, FWS_LATE_BURST);
    fws_topic_join(topic, &conns[0], NULL);
    fws_source_set_rate(&source, 0, 0, true);
    for (int round = 0; round < 5; round++) {
        CHECK(run_out(1) > 0); /* up to what the logs may hold: nothing of it may be taken */
        CHECK(topics.logs.bytes <= 200000 + sizeof(fws_slab) + 2 * FWS_SLAB_BYTES);
        CHECK(!fws_sub_lapped(fws_conn_find_sub(&conns[0], topic)));
        deliver(&conns[0]);
    }
    CHECK_EQ(topic->account.dropped, 0);
    end();
}

static void test_a_source_whose_topic_is_closed_stands_still(void)
{
    begin(FWS_SLOW_LATEST, 1 << 20, FWS_LATE_BURST);
    fws_topic_join(topic, &conns[0], NULL);
    fws_source_set_rate(&source, 1000, 1000, false);
    fws_topic_close(topic);
    CHECK_EQ(fws_source_run(&source, 2000000000, 0, &eseq), 0);
    CHECK(source.topic == NULL);
    CHECK_EQ(fws_source_next(&source, 3000000000), UINT64_MAX);
    CHECK(fws_topics_collect(&topics) == NULL);
    CHECK_EQ(topics.n, 0);
    fws_topics_clear(&topics);
    fws_conn_clear_subs(&conns[0]);
}

int main(void)
{
    RUN(test_a_source_whose_topic_is_closed_stands_still);
    RUN(test_counts_are_exact_at_every_rate);
    RUN(test_every_tick_carries_its_due_time_and_number);
    RUN(test_a_feed_without_members_stands_still);
    RUN(test_a_change_of_rate_starts_anew);
    RUN(test_a_batch_is_bounded_and_the_rest_follows_at_once);
    RUN(test_max_is_bounded_by_the_slowest_member);
    RUN(test_max_writes_the_ticks_of_the_seed);
    RUN(test_next_and_run_agree_on_the_last_byte_of_room);
    RUN(test_a_paced_feed_without_room_waits_for_a_socket);
    RUN(test_late_ticks_may_be_skipped_and_are_counted);
    RUN(test_ticks_are_published);
    RUN(test_the_budget_of_all_logs_holds_for_ticks);
    return 0;
}
