/* A variant beside its base: what it derives, what it passes over, who it serves when. */
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
    append_frame(&topic, frame, head + n, ++eseq);
}

static fws_sub *join_compressed(fws_conn *conn)
{
    conn->window_bits = 15;
    fws_sub *sub = fws_topic_join(&topic, conn);
    CHECK(sub != NULL && sub->variant != NULL);
    return sub;
}

static void advance(const fws_sub *sub)
{
    fws_variant_advance(sub->variant, &topic.log, fws_sub_seq(sub), codec);
}

static void test_a_frame_is_derived_once_and_an_empty_one_stays_as_it_is(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    fws_sub *sub = join_compressed(&conns[0]);
    publish_text(0);
    publish_text(1000);
    advance(sub);
    advance(sub);
    CHECK_EQ(sub->variant->log.next_seq, 2);
    CHECK(sub->variant->log.bytes > 2 && sub->variant->log.bytes < 100);
    deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(sub->delivered, 2);
    CHECK_EQ(conns[0].bytes_written, sub->variant->log.bytes);
    end();
}

/* The log has retired what the reader was to get: there is nothing to derive or to send before the
 * policy has moved it on. */
static void test_a_lapped_reader_gets_nothing_until_its_policy_has_spoken(void)
{
    static fws_plan plan;
    begin(FWS_SLOW_LATEST, 100000, 100000);
    fws_sub *sub = join_compressed(&conns[0]);
    for (uint32_t i = 0; i < LAPPED_AFTER; i++)
        publish_text(50000);
    CHECK(fws_sub_lapped(sub));
    advance(sub);
    CHECK_EQ(sub->variant->log.next_seq, 0);
    fws_gather(&conns[0], &plan);
    CHECK_EQ(plan.bytes, 0);
    CHECK(fws_conn_pending(&conns[0]));
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, LAPPED_AFTER - 1);
    advance(sub);
    deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(sub->delivered, 1);
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
    advance(second);
    CHECK_EQ(fws_deflate_calls(codec), calls + 1);
    CHECK_EQ(second->variant->log.next_seq, 4);
    CHECK(second->variant->log.bytes < 100); /* the fourth alone */
    deliver(&conns[0], SIZE_MAX);            /* the topic's log serves what the variant has not */
    CHECK_EQ(first->delivered, 4);
    CHECK(conns[0].bytes_written > 150000);
    deliver(&conns[1], SIZE_MAX);
    CHECK(second->delivered == 1 && conns[1].bytes_written < 100);
    end();
}

static void test_a_topic_that_goes_takes_its_members_and_variants_along(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    join_compressed(&conns[0]);
    fws_topic_join(&topic, &conns[1]);
    publish_text(1000);
    fws_topic_clear(&topic);
    CHECK(conns[0].subs == NULL && conns[1].subs == NULL);
    CHECK_EQ(topic.dropped, 2);
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
    RUN(test_a_lapped_reader_gets_nothing_until_its_policy_has_spoken);
    RUN(test_a_gap_larger_than_a_step_is_passed_over);
    RUN(test_a_topic_that_goes_takes_its_members_and_variants_along);
    fws_deflate_free(codec);
    return 0;
}
