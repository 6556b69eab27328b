/* A variant beside its base: what it derives, what it passes over, when the base serves instead. */
#include "topic_fixture.h"
#include "wire/frame.h"

#define LAPPED_AFTER 30u

static fws_deflate *codec;

/* A frame of n bytes of payload that shrinks. */
static void publish_text(size_t n)
{
    static uint8_t frame[FWS_HEADER_MAX + 60000];
    size_t head = fws_header_encode(frame, FWS_TEXT, true, 0, n, NULL);
    memset(frame + head, 'x', n);
    append_frame(topic, frame, head + n, ++eseq);
}

static fws_variant *variant_of(const fws_sub *sub)
{
    return sub->extra->variant;
}

static fws_sub *join_compressed(fws_conn *conn)
{
    conn->window_bits = 15;
    fws_sub *sub = fws_topic_join(topic, conn, NULL);
    CHECK(sub != NULL && variant_of(sub) != NULL);
    return sub;
}

static void advance(const fws_sub *sub)
{
    CHECK(fws_sub_derive(sub, sub->seq, codec));
}

/* Takes all that there is for it, in plans that may compress. */
static void deliver_all(fws_conn *conn)
{
    static fws_plan plan;
    plan.codec = codec;
    wake_all(&topics);
    while (fws_conn_pending(conn)) {
        CHECK_EQ(fws_gather(conn, &plan, UINT64_MAX), FWS_OK);
        CHECK(plan.bytes > 0);
        fws_commit(conn, &plan, plan.bytes);
    }
}

static void test_a_frame_is_derived_once_and_an_empty_one_stays_as_it_is(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    fws_sub *sub = join_compressed(&conns[0]);
    publish_text(0);
    publish_text(1000);
    advance(sub);
    advance(sub);
    const fws_log *log = &variant_of(sub)->log;
    CHECK_EQ(log->next_seq, 2);
    CHECK(log->bytes > 2 && log->bytes < 100);
    deliver_all(&conns[0]);
    CHECK_EQ(delivered(sub), 2);
    CHECK_EQ(conns[0].bytes_written, log->bytes);
    end();
}

static void test_all_readers_of_one_window_share_a_variant(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    const uint64_t calls = fws_deflate_calls(codec);
    for (int i = 0; i < 3; i++)
        CHECK(variant_of(join_compressed(&conns[i]))
              == variant_of(fws_conn_find_sub(&conns[0], topic)));
    conns[3].window_bits = 10;
    fws_sub *narrow = fws_topic_join(topic, &conns[3], NULL);
    CHECK(variant_of(narrow) != variant_of(fws_conn_find_sub(&conns[0], topic)));
    fws_topic_join(topic, &conns[4], NULL);
    publish_text(500);
    for (int i = 0; i < 5; i++)
        deliver_all(&conns[i]);
    CHECK_EQ(fws_deflate_calls(codec), calls + 2);
    CHECK_EQ(conns[4].bytes_written, 504);
    for (int i = 0; i < 4; i++)
        CHECK(conns[i].bytes_written < 100);
    for (int i = 0; i < 5; i++)
        fws_topic_leave(fws_conn_find_sub(&conns[i], topic));
    CHECK(topic->variants == NULL);
    end();
}

/* The log has retired what the reader was to get: there is nothing to derive before its policy
 * has moved it on. */
static void test_a_lapped_reader_gets_the_newest_frame_compressed(void)
{
    begin(FWS_SLOW_LATEST, 100000, 100000);
    fws_sub *sub = join_compressed(&conns[0]);
    publish_text(50000);
    wake_all(&topics);
    stall(&conns[0]);
    for (uint32_t i = 1; i < LAPPED_AFTER; i++)
        publish_text(50000);
    CHECK(fws_sub_lapped(sub));
    advance(sub);
    CHECK_EQ(variant_of(sub)->log.next_seq, 0);
    deliver_all(&conns[0]);
    CHECK_EQ(sub->dropped, LAPPED_AFTER - 1);
    CHECK_EQ(delivered(sub), 1);
    CHECK(conns[0].bytes_written < 1000); /* compressed: the gap was passed over */
    end();
}

static void test_a_gap_larger_than_a_step_is_passed_over(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    fws_sub *first = join_compressed(&conns[0]);
    publish_text(50000);
    publish_text(50000);
    publish_text(50000);
    fws_sub *second = join_compressed(&conns[1]);
    const uint64_t calls = fws_deflate_calls(codec);
    publish_text(1000);
    wake_all(&topics);
    advance(second);
    CHECK_EQ(fws_deflate_calls(codec), calls + 1);
    CHECK_EQ(variant_of(second)->log.next_seq, 4);
    CHECK(variant_of(second)->log.bytes < 100); /* the fourth alone */
    deliver_all(&conns[0]);                     /* the topic's log serves the others */
    CHECK_EQ(delivered(first), 4);
    CHECK(conns[0].bytes_written > 150000);
    deliver_all(&conns[1]);
    CHECK(delivered(second) == 1 && conns[1].bytes_written < 100);
    end();
}

static void test_a_gap_of_one_step_is_derived_to_its_end(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    join_compressed(&conns[0]);
    publish_text(FWS_DERIVE_STEP / 2 - 4); /* four bytes of header */
    publish_text(FWS_DERIVE_STEP / 2 - 4);
    fws_sub *second = join_compressed(&conns[1]);
    publish_text(1000);
    advance(second);
    CHECK_EQ(variant_of(second)->log.first_seq, 0);
    CHECK_EQ(variant_of(second)->log.next_seq, 3);
    end();
}

/* Readers that are not at the same place, and short writes: every frame reaches each of them once. */
static void test_readers_at_different_places_get_every_frame_once(void)
{
    static fws_plan plan;
    uint64_t random = 6;
    begin(FWS_SLOW_CLOSE, 1 << 30, 1 << 30);
    plan.codec = codec;
    for (int i = 0; i < 4; i++)
        join_compressed(&conns[i]);
    for (int i = 0; i < 2000; i++) {
        publish_text(test_random(&random) % (i % 20 == 0 ? 60000 : 300));
        wake_all(&topics);
        fws_conn *conn = &conns[test_random(&random) % 4];
        CHECK_EQ(fws_gather(conn, &plan, UINT64_MAX), FWS_OK);
        fws_commit(conn, &plan, plan.bytes == 0 ? 0 : test_random(&random) % (plan.bytes + 1));
        check_account(topic);
    }
    for (int i = 0; i < 4; i++) {
        deliver_all(&conns[i]);
        CHECK_EQ(delivered(fws_conn_find_sub(&conns[i], topic)), 2000);
    }
    CHECK_EQ(topics.logs.bytes, 0); /* the variant, too, keeps nothing that nobody needs */
    end();
}

static void test_a_variant_keeps_no_more_than_its_base(void)
{
    begin(FWS_SLOW_LATEST, 100000, 100000);
    fws_sub *slow = join_compressed(&conns[0]);
    fws_sub *quick = join_compressed(&conns[1]);
    publish_text(1000);
    wake_all(&topics);
    stall(&conns[0]);
    for (int i = 0; i < 20000; i++) {
        publish_text(1000);
        deliver_all(&conns[1]);
    }
    CHECK(fws_sub_lapped(slow));
    CHECK_EQ(delivered(quick), 20001);
    CHECK(variant_of(quick)->log.first_seq + FWS_SLAB_FRAMES >= topic->log.first_seq);
    CHECK(topics.logs.bytes < 500000);
    end();
}

static void test_a_topic_that_is_closed_takes_its_members_and_variants_along(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    join_compressed(&conns[0]);
    fws_topic_join(topic, &conns[1], NULL);
    publish_text(1000);
    fws_topic_ref(topic);
    fws_topic_close(topic);
    CHECK(conns[0].n_subs == 0 && conns[1].n_subs == 0);
    CHECK(topic->variants == NULL);
    CHECK_EQ(topic->account.dropped, 2);
    fws_topic_unref(topic);
    end();
}

int main(void)
{
    codec = fws_deflate_new();
    if (codec == NULL) {
        puts("skipped: built without zlib");
        return 0;
    }
    RUN(test_a_frame_is_derived_once_and_an_empty_one_stays_as_it_is);
    RUN(test_all_readers_of_one_window_share_a_variant);
    RUN(test_a_lapped_reader_gets_the_newest_frame_compressed);
    RUN(test_a_gap_larger_than_a_step_is_passed_over);
    RUN(test_a_gap_of_one_step_is_derived_to_its_end);
    RUN(test_readers_at_different_places_get_every_frame_once);
    RUN(test_a_variant_keeps_no_more_than_its_base);
    RUN(test_a_topic_that_is_closed_takes_its_members_and_variants_along);
    fws_deflate_free(codec);
    return 0;
}
