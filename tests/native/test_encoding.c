/* Messages in their envelopes, byte by byte, in room that ends at a guarded page: what is written is
 * exactly what was said to be needed. */
#include "check.h"
#include "log/encode.h"

static fws_enclosed enclosed(uint8_t content, const void *data, size_t n, const char *key)
{
    return (fws_enclosed){.data = n == 0 ? NULL : guarded_copy(data, n),
                          .n = n,
                          .key = (const uint8_t *)key,
                          .key_n = key == NULL ? 0 : strlen(key),
                          .seq = 41,
                          .content = content,
                          .envelope = true};
}

static void expect(const fws_enclosed *message, const char *text, size_t n)
{
    CHECK_EQ(fws_enclosed_size(message), n);
    uint8_t *room = guarded(n);
    CHECK(fws_enclosed_write(room, message) == room + n);
    CHECK(memcmp(room, text, n) == 0);
}

static void expect_text(const fws_enclosed *message, const char *text)
{
    expect(message, text, strlen(text));
}

static void test_golden_bytes(void)
{
    fws_enclosed text = enclosed(FWS_CONTENT_TEXT, "a \"b\"\\\n\x01\x7f", 9, NULL);
    expect_text(&text, "{\"seq\":41,\"data\":\"a \\\"b\\\"\\\\\\n\\u0001\x7f\"}");
    fws_enclosed json = enclosed(FWS_CONTENT_JSON, "{\"a\":1}", 7, "BTC");
    expect_text(&json, "{\"seq\":41,\"key\":\"BTC\",\"data\":{\"a\":1}}");
    fws_enclosed none = enclosed(FWS_CONTENT_JSON, "", 0, "\"\t\xC3\xA9");
    expect_text(&none, "{\"seq\":41,\"key\":\"\\\"\\t\xC3\xA9\",\"data\":null}");
    fws_enclosed binary = enclosed(FWS_CONTENT_BINARY, "\0\xFF", 2, "BTC");
    expect(&binary, "\x29\0\0\0\0\0\0\0\0\xFF", 10);
    binary.envelope = text.envelope = json.envelope = none.envelope = false;
    expect(&binary, "\0\xFF", 2);
    expect_text(&text, "\"a \\\"b\\\"\\\\\\n\\u0001\x7f\"");
    expect_text(&json, "{\"a\":1}");
    expect_text(&none, "null");
}

static void test_a_key_that_is_no_utf8_is_left_out(void)
{
    const char *const keys[] = {"\xFF", "a\x80", "\xC3", "\xED\xA0\x80"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        fws_enclosed message = enclosed(FWS_CONTENT_JSON, "1", 1, keys[i]);
        expect_text(&message, "{\"seq\":41,\"data\":1}");
    }
}

static void test_numbers_of_every_length(void)
{
    char text[100];
    uint64_t seq = 0;
    for (int digits = 1; digits <= 20; digits++) {
        fws_enclosed message = enclosed(FWS_CONTENT_JSON, "1", 1, NULL);
        for (int last = 0; last < 2; last++) {
            message.seq = seq - (uint64_t)(last == 0 && seq > 0);
            sprintf(text, "{\"seq\":%" PRIu64 ",\"data\":1}", message.seq);
            expect_text(&message, text);
        }
        seq = seq == 0 ? 10 : seq > UINT64_MAX / 10 ? UINT64_MAX : seq * 10;
    }
}

static const char *escaped(uint8_t character)
{
    static char text[8];
    static const char pairs[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    for (size_t i = 0; i + 1 < sizeof pairs; i += 2)
        if ((uint8_t)pairs[i] == character) {
            sprintf(text, "\\%c", pairs[i + 1]);
            return text;
        }
    sprintf(text, character < 0x20 ? "\\u%04x" : "%c", character);
    return text;
}

/* Each character at each place of a few words. */
static void test_every_character_at_every_place(void)
{
    uint8_t text[20];
    char wanted[64];
    for (unsigned character = 0; character < 256; character++)
        for (size_t n = 1; n <= sizeof text; n += n < 9 ? 1 : 11)
            for (size_t at = 0; at < n; at++) {
                memset(text, 'x', n);
                text[at] = (uint8_t)character;
                size_t size = 0;
                wanted[size++] = '"';
                memset(wanted + size, 'x', at);
                size += at;
                const char *middle = escaped((uint8_t)character);
                size_t middle_n = strlen(middle);
                memcpy(wanted + size, middle, middle_n);
                size += middle_n;
                memset(wanted + size, 'x', n - at - 1);
                size += n - at - 1;
                wanted[size++] = '"';
                fws_enclosed message = {.data = text, .n = n};
                CHECK_EQ(fws_enclosed_size(&message), size);
                uint8_t room[64];
                CHECK(fws_enclosed_write(room, &message) == room + size);
                CHECK(memcmp(room, wanted, size) == 0);
            }
}

static void test_notices_fit_with_the_largest_numbers(void)
{
    uint8_t *room = guarded(FWS_NOTICE_MAX);
    size_t n = fws_began_write(room, UINT64_MAX, INT64_MAX, 0);
    const char *wanted =
        "{\"epoch\":\"ffffffffffffffff\",\"seq\":9223372036854775807,\"recovered\":false}";
    CHECK(n == strlen(wanted) && memcmp(room, wanted, n) == 0);
    n = fws_began_write(room, 31, -1, -1);
    CHECK(n == 23 && memcmp(room, "{\"epoch\":\"1f\",\"seq\":-1}", n) == 0);
    uint8_t *frame = guarded(FWS_NOTICE_FRAME);
    n = fws_gap_frame(frame, UINT64_MAX - 1, UINT64_MAX, "retention");
    CHECK(n <= FWS_NOTICE_FRAME && frame[0] == 0x81 && frame[1] == n - 2);
    n = fws_gap_frame(frame, 42, 99, "slow");
    CHECK(memcmp(frame, "\x81\x1F{\"gap\":[42,99],\"reason\":\"slow\"}", n) == 0);
}

/* Frames. */

static fws_encoded encode(fws_encoding encoding, uint8_t opcode, const char *text, uint8_t content)
{
    static uint8_t frame[FWS_HEADER_MAX + 65536];
    static fws_scratch scratch;
    fws_encoded out;
    size_t n = strlen(text), head_n = fws_header_encode(frame, opcode, true, 0, n, NULL);
    memcpy(frame + head_n, text, n);
    CHECK(fws_encode(&out, encoding, frame, head_n + n, 7, NULL, content, NULL, &scratch));
    return out;
}

static void expect_encoded(const fws_encoded *encoded, const char *bytes, size_t n)
{
    CHECK_EQ(encoded->n, n);
    uint8_t *room = guarded(n);
    fws_encoded_write(encoded, room);
    CHECK(memcmp(room, bytes, n) == 0);
}

static void test_frames_of_every_form(void)
{
    const fws_encoding envelope = {.envelope = true}, batch = {.batched = true};
    fws_encoded out = encode(envelope, FWS_TEXT, "1", FWS_CONTENT_JSON);
    CHECK_EQ(out.form, FWS_FORM_FRAME);
    expect_encoded(&out, "\x81\x12{\"seq\":7,\"data\":1}", 20);
    out = encode(envelope, FWS_BINARY, "1", FWS_CONTENT_JSON);
    expect_encoded(&out, "\x82\x09\x07\0\0\0\0\0\0\0001", 11);
    out = encode(batch, FWS_TEXT, "a", FWS_CONTENT_TEXT);
    CHECK_EQ(out.form, FWS_FORM_JSON);
    expect_encoded(&out, ",\"a\"", 4);
    out = encode(batch, FWS_TEXT, "a", FWS_CONTENT_BINARY);
    CHECK_EQ(out.form, FWS_FORM_BINARY);
    expect_encoded(&out, "\x01\0\0\0a", 5);
}

/* Where it fills a slab alone it is a whole message. */
static void test_an_element_that_is_large_is_a_frame(void)
{
    static char text[FWS_SLAB_ALONE + 10];
    const fws_encoding batch = {.batched = true};
    for (size_t n = FWS_SLAB_ALONE - 6; n < FWS_SLAB_ALONE + 4; n++) {
        memset(text, '7', n);
        fws_encoded out = encode(batch, FWS_TEXT, text, FWS_CONTENT_JSON);
        bool alone = n + 1 > FWS_SLAB_ALONE;
        CHECK_EQ(out.form, alone ? FWS_FORM_FRAME : FWS_FORM_JSON);
        uint8_t *room = guarded(out.n);
        fws_encoded_write(&out, room);
        CHECK_EQ(out.n, alone ? n + 2 + 4 : n + 1);
        CHECK(!alone || (room[0] == 0x81 && room[4] == '[' && room[out.n - 1] == ']'));
    }
}

static void test_heads_of_batches(void)
{
    uint8_t *head = guarded(FWS_BATCH_HEAD);
    size_t skip;
    CHECK_EQ(fws_batch_head(head, FWS_FORM_JSON, 124, &skip), 3);
    CHECK(skip == 1 && memcmp(head, "\x81\x7D[", 3) == 0);
    CHECK_EQ(fws_batch_head(head, FWS_FORM_JSON, 125, &skip), 5);
    CHECK(memcmp(head, "\x81\x7E\0\x7E[", 5) == 0);
    CHECK_EQ(fws_batch_head(head, FWS_FORM_BINARY, 125, &skip), 2);
    CHECK(skip == 0 && memcmp(head, "\x82\x7D", 2) == 0);
}

int main(void)
{
    RUN(test_golden_bytes);
    RUN(test_a_key_that_is_no_utf8_is_left_out);
    RUN(test_numbers_of_every_length);
    RUN(test_every_character_at_every_place);
    RUN(test_notices_fit_with_the_largest_numbers);
    RUN(test_frames_of_every_form);
    RUN(test_an_element_that_is_large_is_a_frame);
    RUN(test_heads_of_batches);
    return 0;
}
