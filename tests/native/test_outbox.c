/* The outbox: who overtakes whom, what is replaced, what a slow consumer loses. */
#include "check.h"
#include "wire/frame.h"
#include "log/outbox.h"

static fws_outbox box;

static fws_entry *push(uint64_t eseq, enum fws_entry_kind kind, uint8_t opcode, const char *text)
{
    size_t head = strlen(text) / 2;
    const uint8_t *bytes = (const uint8_t *)text;
    fws_entry *entry =
        fws_outbox_push(&box, eseq, kind, opcode, bytes, head, bytes + head, strlen(text) - head);
    CHECK(entry != NULL);
    return entry;
}

static void expect(const char *texts)
{
    char seen[256] = "";
    size_t bytes = 0;
    const fws_entry *last = NULL;
    for (const fws_entry *entry = box.first; entry != NULL; entry = entry->next) {
        strncat(seen, (const char *)entry->data, entry->n);
        strcat(seen, " ");
        bytes += entry->n - entry->sent;
        last = entry;
    }
    if (strcmp(seen, texts) != 0)
        fprintf(stderr, "in the outbox: %s, not %s\n", seen, texts);
    CHECK(strcmp(seen, texts) == 0);
    CHECK_EQ(box.bytes, bytes);
    CHECK(box.last == last);
}

static void send_first(uint32_t n)
{
    box.first->sent += n;
    box.bytes -= n;
    if (box.first->sent == box.first->n)
        fws_outbox_pop(&box);
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
    expect("one ping gong two ");
    send_first(2);
    send_first(2);
    push(0, FWS_ENTRY_CONTROL, FWS_PING, "pling");
    expect("ping gong pling two ");
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
        CHECK(box.bytes < 20000);
    }
    int previous = -1, entries = 0;
    while (box.first->opcode == FWS_PONG) {
        memset(text, 0, sizeof text);
        memcpy(text, box.first->data, box.first->n);
        CHECK(atoi(text) > previous);
        previous = atoi(text);
        entries++;
        send_first(box.first->n);
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
    CHECK_EQ(box.first->n, sizeof text - 1);
    CHECK_EQ(box.bytes, sizeof text - 1 + sizeof large - 1);
    send_first(1);
    push(0, FWS_ENTRY_CONTROL, FWS_PONG, "b"); /* one that has begun to leave stays */
    CHECK_EQ(box.first->n, sizeof text - 1);
    CHECK_EQ(box.first->next->n, 1);
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
    CHECK(box.first == NULL && box.bytes == 0);
}

static void test_dropping_keeps_what_has_begun(void)
{
    push(1, FWS_ENTRY_BYTES, FWS_TEXT, "one");
    push(2, FWS_ENTRY_BYTES, FWS_TEXT, "two");
    push(0, FWS_ENTRY_CONTROL, FWS_PONG, "pong");
    send_first(2);
    fws_outbox_drop_unsent(&box);
    expect("pong ");
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
    return 0;
}
