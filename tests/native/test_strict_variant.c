/* Strict variants beside their base: readers that nothing else can serve, wherever they stand; frames
 * that are encoded one by one for those who read the newest of each key; batches; what was lost. */
#include "topic_fixture.h"
#include "wire/frame.h"

#define TEXT_MAX 60000

static uint64_t got[CONNS];      /* by connection: the number that is due */
static uint64_t messages, words; /* that were read; that told of something */

/* A frame whose payload says its number. */
static void publish_number(size_t n, uint32_t key)
{
    static uint8_t frame[FWS_HEADER_MAX + TEXT_MAX];
    uint8_t *room;
    size_t head_n = fws_header_encode(frame, FWS_BINARY, true, 0, n, NULL);
    CHECK(n >= 8 && n <= TEXT_MAX);
    memset(frame + head_n, 'x', n);
    memcpy(frame + head_n, &topic->log.next_seq, 8);
    CHECK_EQ(fws_topic_reserve(topic, head_n + n, eseq + 1, &room), FWS_OK);
    fws_key *found =
        key == 0 ? NULL : fws_topic_key(topic, (const uint8_t *)&key, sizeof key);
    memcpy(room, frame, head_n + n);
    fws_topic_commit_keyed(topic, found, head_n + n, ++eseq);
}

static fws_sub *join_from(int who, uint64_t seq, bool envelope, uint16_t batch)
{
    fws_sub *sub = fws_topic_join_at(topic, &conns[who], NULL, seq, ++eseq);
    CHECK(sub != NULL);
    CHECK_EQ(fws_sub_encode(sub, envelope, batch), FWS_OK);
    got[who] = sub->seq;
    return sub;
}

/* One element: its number, which it says twice. */
static void read_element(int who, bool envelope, const uint8_t *data, size_t n)
{
    uint64_t seq, inside;
    CHECK(n >= (envelope ? 16 : 8));
    memcpy(&seq, data, 8);
    memcpy(&inside, data + (envelope ? 8 : 0), 8);
    CHECK(seq == inside && seq >= got[who]);
    got[who] = seq + 1;
    messages++;
}

static void read_message(int who, const uint8_t *data, size_t n)
{
    const fws_sub *sub = fws_conn_find_sub(&conns[who], topic);
    const bool envelope = sub->extra->variant->encoding.envelope;
    uint32_t size, count = 0;
    if (sub->extra->batch == 0) {
        read_element(who, envelope, data, n);
        return;
    }
    for (; n > 0; data += size, n -= size, count++) {
        CHECK(n > sizeof size);
        memcpy(&size, data, sizeof size);
        data += sizeof size;
        n -= sizeof size;
        CHECK(size <= n);
        read_element(who, envelope, data, size);
    }
    CHECK(count > 0 && count <= sub->extra->batch);
}

/* Reads whole frames off what a connection has got; returns what is left. */
static size_t read_frames(int who, uint8_t *data, size_t n)
{
    fws_header header;
    size_t at = 0;
    int size;
    while ((size = fws_header_decode(data + at, n - at, &header)) > 0
           && n - at - (size_t)size >= header.length) {
        if (header.opcode == FWS_BINARY)
            read_message(who, data + at + size, header.length);
        words += header.opcode == FWS_TEXT;
        at += (size_t)size + header.length;
    }
    CHECK(size >= 0);
    memmove(data, data + at, n - at);
    return n - at;
}

static uint8_t *inboxes[CONNS];
static size_t inbox_n[CONNS];

/* Takes up to that many bytes of one plan, and reads them. False: there were none. */
static bool take_some(int who, size_t most)
{
    static fws_plan plan;
    if (inboxes[who] == NULL)
        inboxes[who] = malloc(1 << 20);
    CHECK_EQ(fws_gather(&conns[who], &plan, UINT64_MAX), FWS_OK);
    size_t n = most < plan.bytes ? most : plan.bytes, left = n;
    for (uint32_t i = 0; i < plan.n_iov && left > 0; i++) {
        size_t piece = plan.iov[i].iov_len < left ? plan.iov[i].iov_len : left;
        memcpy(inboxes[who] + inbox_n[who], plan.iov[i].iov_base, piece);
        inbox_n[who] += piece;
        left -= piece;
    }
    fws_commit(&conns[who], &plan, n);
    check_account(topic);
    inbox_n[who] = read_frames(who, inboxes[who], inbox_n[who]);
    return n > 0 || plan.derived > 0;
}

static void take_all(int who)
{
    wake_all(&topics);
    while (take_some(who, SIZE_MAX) || fws_conn_pending(&conns[who]))
        continue;
    CHECK_EQ(inbox_n[who], 0);
}

static void begin_kept(uint64_t history, uint8_t on_slow, uint64_t max_lag)
{
    const fws_topic_options options = {.retention_bytes = max_lag * 2,
                                       .max_lag_bytes = max_lag,
                                       .on_slow = on_slow,
                                       .history_messages = history};
    begin_with(&options, 0);
    most_half_sent = FWS_PLAN_RUNS;
    messages = words = 0;
    memset(inbox_n, 0, sizeof inbox_n);
}

static void test_readers_at_any_place_get_every_frame(void)
{
    begin_kept(20000, FWS_SLOW_CLOSE, 1 << 24);
    for (int i = 0; i < 10000; i++)
        publish_number(8 + (size_t)i % 200, 0);
    for (int who = 0; who < 9; who++) /* each of them further back */
        join_from(who, (uint64_t)(9000 - who * 1000), who % 3 > 0, who % 3 < 2 ? 50 : 0);
    for (int i = 0; i < 1000; i++)
        publish_number(100, 0);
    for (int who = 0; who < 9; who++) {
        take_all(who);
        CHECK_EQ(got[who], 11000);
    }
    CHECK_EQ(messages, 9 * (2000 + 10000) / 2);
    end();
}

/* What nobody reads any more is passed over; what somebody still reads is not. */
static void test_a_variant_passes_over_what_nobody_reads(void)
{
    begin_kept(0, FWS_SLOW_LATEST, 10000);
    fws_sub *sub = join_from(0, FWS_START, true, 0);
    publish_number(1000, 0);
    wake_all(&topics);
    stall(&conns[0]);
    for (int i = 0; i < 1000; i++)
        publish_number(1000, 0);
    CHECK(fws_sub_lapped(sub));
    take_all(0);
    const fws_log *log = &sub->extra->variant->log;
    CHECK(log->next_seq == 1001 && log->bytes < 30000);
    CHECK(messages == 1 && words == 1);
    CHECK_EQ(sub->dropped, 1000);
    end();
}

static void test_short_writes_of_all_readers_keep_every_message_whole(void)
{
    uint64_t random = 4;
    begin_kept(0, FWS_SLOW_CLOSE, 1 << 24);
    for (int who = 0; who < 6; who++)
        join_from(who, FWS_START, who < 4, who < 2 ? 0 : who < 4 ? 3 : 512);
    for (int i = 0; i < 3000; i++) {
        publish_number(8 + test_random(&random) % (i % 50 == 0 ? 40000 : 100), 0);
        wake_all(&topics);
        (void)take_some((int)(test_random(&random) % 6), test_random(&random) % 3000);
    }
    for (int who = 0; who < 6; who++)
        take_all(who);
    CHECK_EQ(messages, 6 * 3000);
    CHECK_EQ(topics.logs.bytes, 0);
    end();
}

static void test_the_newest_of_each_key_is_encoded_once_for_all(void)
{
    begin_kept(0, FWS_SLOW_LATEST, 10000);
    for (int who = 0; who < 5; who++)
        join_from(who, FWS_START, true, who == 4 ? 9 : 0);
    publish_number(100, 1);
    wake_all(&topics);
    for (int who = 0; who < 5; who++)
        stall(&conns[who]);
    for (uint32_t i = 0; i < 5000; i++)
        publish_number(100, i < 40 ? 1 + i : 1 + i % 7);
    for (int who = 0; who < 5; who++) /* as the sweep does */
        CHECK_EQ(fws_sub_apply_policy(fws_conn_find_sub(&conns[who], topic)), FWS_OK);
    take_all(0);
    CHECK_EQ(messages, 40);
    const fws_variant *variant = fws_conn_find_sub(&conns[0], topic)->extra->variant;
    CHECK_EQ(variant->n_singles, 40);
    const uint64_t held = variant->log.held;
    CHECK(held > 40 * 100 && held < 40 * 500);
    for (int who = 1; who < 4; who++)
        take_all(who);
    CHECK(messages == 160 && variant->log.held == held);
    take_all(4);
    CHECK(messages == 200 && words == 0);
    CHECK_EQ(topic->conflating, 0);
    for (const fws_variant *at = topic->variants; at != NULL; at = at->next)
        CHECK(at->n_singles == 0 && at->log.beside == 0);
    end();
}

/* Readers that stay behind: singles of frames that are no newest ones any more go. */
static void test_singles_are_no_more_than_the_keys(void)
{
    uint64_t random = 8;
    begin_kept(0, FWS_SLOW_LATEST, 5000);
    fws_sub *sub = join_from(0, FWS_START, true, 0);
    publish_number(100, 1);
    wake_all(&topics);
    stall(&conns[0]);
    for (int i = 0; i < 3000; i++) {
        for (int k = 0; k < 20; k++)
            publish_number(100, 1 + (uint32_t)(test_random(&random) % 20));
        wake_all(&topics);
        (void)take_some(0, 500);
    }
    CHECK(sub->conflating && messages > 5000);
    CHECK(sub->extra->variant->capacity <= 64);
    take_all(0);
    end();
}

static void test_another_content_holds_from_the_next_frame_on(void)
{
    begin_kept(100, FWS_SLOW_CLOSE, 1 << 20);
    join_from(0, FWS_START, true, 0);
    publish_number(10, 0);
    take_all(0);
    fws_topic_options changed = *topic->options;
    changed.content = FWS_CONTENT_BINARY;
    CHECK_EQ(fws_topic_set_options(topic, &changed), FWS_OK);
    publish_number(10, 0);
    take_all(0);
    CHECK_EQ(messages, 2);
    end();
}

int main(void)
{
    RUN(test_readers_at_any_place_get_every_frame);
    RUN(test_a_variant_passes_over_what_nobody_reads);
    RUN(test_short_writes_of_all_readers_keep_every_message_whole);
    RUN(test_the_newest_of_each_key_is_encoded_once_for_all);
    RUN(test_singles_are_no_more_than_the_keys);
    RUN(test_another_content_holds_from_the_next_frame_on);
    for (int who = 0; who < CONNS; who++)
        free(inboxes[who]);
    return 0;
}
