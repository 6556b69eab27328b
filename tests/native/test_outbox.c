/* The outbox: who overtakes whom, what is replaced, what a slow consumer loses. */
#include "check.h"
#include "wire/frame.h"
#include "log/outbox.h"

static fws_outbox box;

static void push(uint64_t eseq, enum fws_entry_kind kind, uint8_t opcode, const char *text)
{
    size_t head = strlen(text) / 2;
    const uint8_t *bytes = (const uint8_t *)text;
    CHECK(fws_outbox_push(&box, eseq, kind, opcode, bytes, head, bytes + head, strlen(text) - head)
          != NULL);
}

static size_t held(const fws_block *queue)
{
    size_t n = 0;
    for (const fws_block *block = queue; block != NULL;
         block = block->next == queue ? NULL : block->next)
        n += fws_allocated(sizeof *block + block->room);
    return n;
}

/* The bytes that would leave, a blank behind each piece; messages of `limit` at most are taken
 * together, others alone. */
static void expect_pieces(uint64_t limit, const char *texts)
{
    char seen[256] = "";
    size_t bytes = 0;
    fws_place place = fws_outbox_first(&box);
    while (place.block != NULL) {
        const uint8_t *data;
        uint32_t n = fws_outbox_take(&box, &place, limit, &data);
        CHECK(n > 0);
        strncat(seen, (const char *)data, n);
        strcat(seen, " ");
        bytes += n;
    }
    if (strcmp(seen, texts) != 0)
        fprintf(stderr, "in the outbox: %s, not %s\n", seen, texts);
    CHECK(strcmp(seen, texts) == 0);
    CHECK_EQ(box.bytes, bytes);
    CHECK_EQ(box.allocated, held(box.urgent) + held(box.direct));
    CHECK(fws_outbox_empty(&box) == (bytes == 0));
}

static void send_first(uint32_t n)
{
    CHECK(!fws_outbox_sent(&box, n));
}

static void expect(const char *texts)
{
    expect_pieces(0, texts);
}

static const uint8_t *first(uint32_t *n)
{
    const uint8_t *data;
    fws_place place = fws_outbox_first(&box);
    *n = fws_outbox_take(&box, &place, 0, &data);
    return data;
}

static void test_entries_leave_in_the_order_of_their_sequence(void)
{
    push(1, FWS_ENTRY_BYTES, FWS_TEXT, "one");
    push(2, FWS_ENTRY_BYTES, FWS_TEXT, "two");
    push(3, FWS_ENTRY_CLOSE, FWS_CLOSE, "close");
    expect("one two close ");
    send_first(3);
    expect("two close ");
    fws_outbox_clear(&box);
    expect("");
}

static void test_either_piece_may_be_empty(void)
{
    CHECK(fws_outbox_push(&box, 1, FWS_ENTRY_BYTES, 0, (const uint8_t *)"ab", 2, NULL, 0));
    CHECK(fws_outbox_push(&box, 2, FWS_ENTRY_BYTES, 0, NULL, 0, (const uint8_t *)"cd", 2));
    expect("ab cd ");
    fws_outbox_clear(&box);
}

static void test_control_overtakes_whole_entries_only(void)
{
    push(1, FWS_ENTRY_BYTES, FWS_TEXT, "one");
    push(0, FWS_ENTRY_CONTROL, FWS_PONG, "pong");
    push(2, FWS_ENTRY_BYTES, FWS_TEXT, "two");
    expect("pong one two ");
    send_first(4);
    send_first(1);
    push(0, FWS_ENTRY_CONTROL, FWS_PING, "ping");
    push(0, FWS_ENTRY_CONTROL, FWS_PONG, "gong");
    expect("ne ping gong two ");
    send_first(2);
    send_first(2);
    push(0, FWS_ENTRY_CONTROL, FWS_PING, "pling");
    expect("ng gong pling two ");
    send_first(2);
    send_first(4);
    send_first(5);
    push(0, FWS_ENTRY_CONTROL, FWS_PING, "late");
    expect("late two ");
    fws_outbox_clear(&box);
    push(0, FWS_ENTRY_CONTROL, FWS_PING, "again");
    expect("again ");
    fws_outbox_clear(&box);
}

static void test_pongs_that_nobody_reads_cost_bounded_memory(void)
{
    char text[16];
    push(1, FWS_ENTRY_BYTES, FWS_TEXT, "data");
    for (int i = 0; i < 100000; i++) {
        snprintf(text, sizeof text, "%d", i);
        push(0, FWS_ENTRY_CONTROL, FWS_PONG, text);
        CHECK(box.allocated < 20000);
    }
    int previous = -1, entries = 0;
    while (box.urgent != NULL) {
        uint32_t n;
        const uint8_t *data = first(&n);
        memset(text, 0, sizeof text);
        memcpy(text, data, n);
        CHECK(atoi(text) > previous);
        previous = atoi(text);
        entries++;
        send_first(n);
    }
    CHECK_EQ(previous, 99999); /* the newest one is answered (RFC 6455 5.5.3) */
    CHECK(entries > 10);
    expect("data ");
    fws_outbox_clear(&box);
}

static void test_a_replaced_pong_may_be_longer_than_the_first(void)
{
    char text[FWS_HEADER_MAX + FWS_CONTROL_MAX + 1] = {0};
    char large[10000];
    memset(large, 'x', sizeof large);
    large[sizeof large - 1] = 0;
    push(1, FWS_ENTRY_BYTES, FWS_TEXT, large);
    push(0, FWS_ENTRY_CONTROL, FWS_PONG, "a");
    memset(text, 'p', sizeof text - 1);
    push(0, FWS_ENTRY_CONTROL, FWS_PONG, text);
    uint32_t n;
    CHECK(memcmp(first(&n), text, sizeof text - 1) == 0);
    CHECK_EQ(n, sizeof text - 1);
    CHECK_EQ(box.bytes, sizeof text - 1 + sizeof large - 1);
    send_first(1);
    push(0, FWS_ENTRY_CONTROL, FWS_PONG, "b"); /* one that has begun to leave stays */
    (void)first(&n);
    CHECK_EQ(n, sizeof text - 2);
    send_first(n);
    CHECK(*first(&n) == 'b' && n == 1);
    fws_outbox_clear(&box);
}

static void test_a_pong_longer_than_a_control_frame_has_room(void)
{
    static const uint8_t large[100000];
    CHECK(fws_outbox_push(&box, 1, FWS_ENTRY_BYTES, FWS_PONG, large, 10, large, 90000) != NULL);
    CHECK_EQ(box.bytes, 90010);
    fws_outbox_clear(&box);
}

static void test_an_entry_past_32_bits_is_refused_unread(void)
{
    const uint8_t one = 1;
    CHECK(fws_outbox_push(&box, 1, FWS_ENTRY_BYTES, 0, &one, 1, &one, UINT32_MAX) == NULL);
    CHECK(fws_outbox_empty(&box) && box.bytes == 0 && box.allocated == 0);
}

static void test_dropping_keeps_what_has_begun(void)
{
    push(1, FWS_ENTRY_BYTES, FWS_TEXT, "one");
    push(2, FWS_ENTRY_BYTES, FWS_TEXT, "two");
    push(0, FWS_ENTRY_CONTROL, FWS_PONG, "pong");
    send_first(2);
    fws_outbox_drop_unsent(&box);
    expect("ng ");
    fws_outbox_drop_unsent(&box);
    send_first(2);
    expect("");
    push(3, FWS_ENTRY_BYTES, FWS_TEXT, "three");
    fws_outbox_drop_unsent(&box);
    expect("");
    push(4, FWS_ENTRY_BYTES, FWS_TEXT, "four");
    push(0, FWS_ENTRY_CONTROL, FWS_PONG, "gong");
    expect("gong four ");
    fws_outbox_clear(&box);
}

static void test_dropping_keeps_an_answer_and_a_close(void)
{
    push(0, FWS_ENTRY_BYTES, 0, "101");
    push(0, FWS_ENTRY_CONTROL, FWS_PONG, "pong");
    push(1, FWS_ENTRY_BYTES, FWS_TEXT, "one");
    push(2, FWS_ENTRY_CLOSE, FWS_CLOSE, "close");
    expect("101 pong one close ");
    fws_outbox_drop_unsent(&box);
    expect("101 close ");
    push(0, FWS_ENTRY_CONTROL, FWS_PONG, "gong");
    expect("101 gong close ");
    fws_outbox_clear(&box);
}

static void test_dropping_keeps_the_message_of_a_block_that_has_begun(void)
{
    push(1, FWS_ENTRY_BYTES, FWS_TEXT, "one");
    push(2, FWS_ENTRY_BYTES, FWS_TEXT, "two");
    push(3, FWS_ENTRY_BYTES, FWS_TEXT, "three");
    push(4, FWS_ENTRY_CLOSE, FWS_CLOSE, "close");
    send_first(4); /* one whole message and a byte of the next */
    fws_outbox_drop_unsent(&box);
    expect("wo close ");
    send_first(2);
    CHECK(fws_outbox_sent(&box, 5));
    expect("");
}

static void test_small_messages_share_blocks(void)
{
    const uint8_t empty[2] = {0x82, 0};
    for (uint64_t i = 0; i < 100000; i++)
        CHECK(fws_outbox_push(&box, 1 + i, FWS_ENTRY_BYTES, FWS_BINARY, empty, 2, NULL, 0) != NULL);
    CHECK_EQ(box.bytes, 200000);
    CHECK(box.allocated < 100000 * 10.5);
    fws_outbox_clear(&box);
    CHECK_EQ(box.allocated, 0);
    push(1, FWS_ENTRY_BYTES, FWS_BINARY, "x"); /* one alone takes little */
    CHECK(box.allocated <= FWS_BLOCK_LEAST + 16);
    fws_outbox_clear(&box);
}

static void test_large_messages_waste_nothing(void)
{
    static uint8_t large[5000];
    size_t sizes[] = {1, FWS_BLOCK_ALONE + 1, 1, sizeof large, 1}, sum = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        size_t n = sizes[i % 5];
        CHECK(fws_outbox_push(&box, 1 + i, FWS_ENTRY_BYTES, FWS_BINARY, large, n, NULL, 0) != NULL);
        sum += n;
    }
    CHECK_EQ(box.bytes, sum);
    CHECK(box.allocated < sum + 1000 * (FWS_BLOCK_LEAST + 16));
    for (uint64_t i = 0; i < 1000; i++) {
        uint32_t n;
        (void)first(&n);
        CHECK_EQ(n, sizes[i % 5]);
        send_first(n);
    }
    expect("");
}

static void test_messages_of_a_block_leave_together_up_to_a_limit(void)
{
    push(10, FWS_ENTRY_BYTES, FWS_TEXT, "aa");
    push(12, FWS_ENTRY_BYTES, FWS_TEXT, "bb");
    push(15, FWS_ENTRY_BYTES, FWS_TEXT, "cc");
    expect_pieces(UINT64_MAX, "aabbcc ");
    expect_pieces(14, "aabb cc ");
    expect_pieces(11, "aa bb cc ");
    fws_place place = fws_outbox_first(&box);
    const uint8_t *data;
    CHECK_EQ(fws_place_eseq(&place), 10);
    CHECK_EQ(fws_outbox_take(&box, &place, 12, &data), 4);
    CHECK_EQ(fws_place_eseq(&place), 15);
    CHECK_EQ(fws_outbox_take(&box, &place, 12, &data), 2);
    CHECK_EQ(fws_place_eseq(&place), UINT64_MAX);
    send_first(5);
    push(0, FWS_ENTRY_CONTROL, FWS_PING, "ping");
    place = fws_outbox_first(&box);
    CHECK_EQ(fws_place_eseq(&place), 0); /* half sent: it goes on, whatever waits */
    expect_pieces(UINT64_MAX, "c ping ");
    fws_outbox_clear(&box);
}

static void test_sequences_too_far_apart_share_no_block(void)
{
    push(1, FWS_ENTRY_BYTES, FWS_TEXT, "a");
    push((uint64_t)UINT32_MAX + 2, FWS_ENTRY_BYTES, FWS_TEXT, "b");
    CHECK(box.direct->next != box.direct);
    fws_place place = fws_outbox_first(&box);
    const uint8_t *data;
    CHECK_EQ(fws_outbox_take(&box, &place, UINT64_MAX, &data), 1);
    CHECK_EQ(fws_place_eseq(&place), (uint64_t)UINT32_MAX + 2);
    fws_outbox_clear(&box);
}

/* Against a plain list: what leaves, in which order, through writes of any size. */
static void test_random_pushes_and_short_writes_keep_the_order(void)
{
    static uint8_t direct[1 << 20], left[1 << 20], data[3000];
    uint64_t state = 7, eseq = 0;
    size_t pushed = 0, gone = 0, pings = 0, pongs = 0;
    for (size_t i = 0; i < sizeof direct; i++)
        direct[i] = (uint8_t)((i * 7 + i / 251) & 0x7F);
    while (pushed < sizeof direct - sizeof data) {
        size_t n = test_random(&state) % 20 == 0 ? 1 + test_random(&state) % sizeof data
                                                 : 1 + test_random(&state) % 40;
        if (test_random(&state) % 8 == 0) {
            const uint8_t ping[2] = {0xFF, 0xFE};
            CHECK(fws_outbox_push(&box, 0, FWS_ENTRY_CONTROL, FWS_PING, ping, 2, NULL, 0) != NULL);
            pings++;
        }
        eseq += 1 + test_random(&state) % 3;
        CHECK(fws_outbox_push(&box, eseq, FWS_ENTRY_BYTES, FWS_TEXT, direct + pushed, n, NULL, 0)
              != NULL);
        pushed += n;
        while (box.bytes > 0 && test_random(&state) % 3 == 0) {
            fws_place place = fws_outbox_first(&box);
            const uint8_t *bytes;
            uint32_t there =
                fws_outbox_take(&box, &place, test_random(&state) % 2 ? UINT64_MAX : 0, &bytes);
            uint32_t sent = 1 + (uint32_t)(test_random(&state) % there);
            if (*bytes >= 0x80) {
                pongs += *bytes == 0xFF;
                sent = there; /* of these two bytes the order is checked elsewhere */
            } else {
                memcpy(left + gone, bytes, sent);
                gone += sent;
            }
            send_first(sent);
        }
    }
    CHECK(memcmp(left, direct, gone) == 0);
    CHECK(gone > 1000 && pongs > 100 && pongs <= pings);
    fws_outbox_clear(&box);
    CHECK_EQ(box.allocated, 0);
}

int main(void)
{
    RUN(test_entries_leave_in_the_order_of_their_sequence);
    RUN(test_either_piece_may_be_empty);
    RUN(test_control_overtakes_whole_entries_only);
    RUN(test_pongs_that_nobody_reads_cost_bounded_memory);
    RUN(test_a_replaced_pong_may_be_longer_than_the_first);
    RUN(test_a_pong_longer_than_a_control_frame_has_room);
    RUN(test_an_entry_past_32_bits_is_refused_unread);
    RUN(test_dropping_keeps_what_has_begun);
    RUN(test_dropping_keeps_an_answer_and_a_close);
    RUN(test_dropping_keeps_the_message_of_a_block_that_has_begun);
    RUN(test_small_messages_share_blocks);
    RUN(test_large_messages_waste_nothing);
    RUN(test_messages_of_a_block_leave_together_up_to_a_limit);
    RUN(test_sequences_too_far_apart_share_no_block);
    RUN(test_random_pushes_and_short_writes_keep_the_order);
    return 0;
}
