/* Frame headers and the incremental parser: literals both ways, every cut, hostile bytes. */
#include "check.h"
#include "wire/frame.h"
#include "wire/mask.h"
#include "wire/status.h"

#define ROOM (1U << 18)
#define KEY "\x37\xfa\x21\x3d"
#define LITERAL(text) (const uint8_t *)(text), sizeof(text) - 1

static uint8_t *edge; /* one past it is the guard page */

static uint8_t *at_edge(const uint8_t *data, size_t n)
{
    return memcpy(edge - n, data, n);
}

/* What a parser said, in a form that does not depend on how the input was cut. */
typedef struct story {
    uint8_t bytes[ROOM];
    size_t n, frames;
    int status; /* of the last call: MORE or an error */
} story;

static void tell(story *told, const void *data, size_t n)
{
    CHECK(told->n + n <= sizeof told->bytes);
    memcpy(told->bytes + told->n, data, n);
    told->n += n;
}

static void tell_header(story *told, const fws_header *header)
{
    uint8_t flags[4] = {header->opcode, header->fin, header->rsv, header->masked};

    tell(told, flags, sizeof flags);
    tell(told, &header->length, sizeof header->length);
}

static void feed(fws_parser *parser, story *told, const uint8_t *bytes, size_t n)
{
    uint8_t *data = at_edge(bytes, n), *piece = NULL;
    size_t left = n, piece_n = 0;

    while ((told->status = fws_parser_next(parser, &data, &left, &piece, &piece_n)) > 0) {
        CHECK(data == edge - left);
        if (told->status == FWS_PIECE_HEADER) {
            tell_header(told, &parser->header);
        } else if (told->status == FWS_PIECE_PAYLOAD) {
            CHECK(piece_n > 0 && piece + piece_n == data);
            tell(told, piece, piece_n);
        } else {
            told->frames++;
        }
    }
    if (told->status == FWS_PIECE_MORE)
        CHECK_EQ(left, 0);
}

static story *fresh(story *told)
{
    told->n = told->frames = 0;
    told->status = 0;
    return told;
}

static void play_split(enum fws_role role, const uint8_t *bytes, size_t n, size_t k, story *told)
{
    fws_parser parser;

    fws_parser_init(&parser, role);
    feed(&parser, fresh(told), bytes, k);
    if (told->status == FWS_PIECE_MORE)
        feed(&parser, told, bytes + k, n - k);
}

static void play_bytewise(enum fws_role role, const uint8_t *bytes, size_t n, story *told)
{
    fws_parser parser;

    fws_parser_init(&parser, role);
    fresh(told);
    for (size_t i = 0; i < n && told->status == FWS_PIECE_MORE; i++)
        feed(&parser, told, bytes + i, 1);
}

static void check_same(const story *told, const story *expected)
{
    CHECK_EQ(told->status, expected->status);
    CHECK_EQ(told->frames, expected->frames);
    CHECK_EQ(told->n, expected->n);
    CHECK(memcmp(told->bytes, expected->bytes, told->n) == 0);
}

/* All of them; inside a long payload, where one is like the other, every 997th. */
static void check_every_split(enum fws_role role, const uint8_t *bytes, size_t n,
                              const story *expected)
{
    static story told;

    for (size_t k = 0; k <= n; k += k > 300 && k + 300 + 997 < n ? 997 : 1) {
        play_split(role, bytes, n, k, &told);
        check_same(&told, expected);
    }
    play_bytewise(role, bytes, n, &told);
    check_same(&told, expected);
}

/* Encodes one frame; returns its size. */
static size_t put(uint8_t *out, unsigned opcode, bool fin, const uint8_t *payload, size_t n,
                  const uint8_t *key)
{
    size_t size = fws_header_encode(out, opcode, fin, 0, n, key);

    CHECK_EQ(size, fws_header_size(n, key != NULL));
    memcpy(out + size, payload, n);
    if (key)
        fws_mask(out + size, n, key, 0);
    return size + n;
}

static void check_frame(const uint8_t *wire, size_t wire_n, unsigned opcode, bool fin,
                        const uint8_t *payload, size_t n, const uint8_t *key)
{
    static uint8_t encoded[ROOM];
    static story expected;
    fws_header header = {n, (uint8_t)opcode, fin, 0, key != NULL, {0}};

    CHECK_EQ(put(encoded, opcode, fin, payload, n, key), wire_n);
    CHECK(memcmp(encoded, wire, wire_n) == 0);
    tell_header(fresh(&expected), &header);
    tell(&expected, payload, n);
    expected.frames = 1;
    check_every_split(key ? FWS_SERVER : FWS_CLIENT, wire, wire_n, &expected);
}

static void test_samples_of_rfc_6455_5_7_encode_and_decode(void)
{
    static const struct {
        const char *wire;
        size_t n;
        const char *payload;
        unsigned opcode;
        bool fin, masked;
    } samples[] = {
        {"\x81\x05\x48\x65\x6c\x6c\x6f", 7, "Hello", FWS_TEXT, true, false},
        {"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", 11, "Hello", FWS_TEXT, true, true},
        {"\x01\x03\x48\x65\x6c", 5, "Hel", FWS_TEXT, false, false},
        {"\x80\x02\x6c\x6f", 4, "lo", FWS_CONTINUATION, true, false},
        {"\x89\x05\x48\x65\x6c\x6c\x6f", 7, "Hello", FWS_PING, true, false},
        {"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", 11, "Hello", FWS_PONG, true, true},
    };

    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++)
        check_frame((const uint8_t *)samples[i].wire, samples[i].n, samples[i].opcode,
                    samples[i].fin, (const uint8_t *)samples[i].payload, strlen(samples[i].payload),
                    samples[i].masked ? (const uint8_t *)KEY : NULL);
}

static void test_long_samples_of_rfc_6455_5_7_encode_and_decode(void)
{
    static uint8_t payload[65536], wire[65546];

    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(i * 31 >> 3);
    memcpy(wire, "\x82\x7e\x01\x00", 4);
    memcpy(wire + 4, payload, 256);
    check_frame(wire, 260, FWS_BINARY, true, payload, 256, NULL);
    memcpy(wire, "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", 10);
    memcpy(wire + 10, payload, 65536);
    check_frame(wire, 65546, FWS_BINARY, true, payload, 65536, NULL);
}

static void test_every_length_form_survives_every_cut(void)
{
    static const size_t lengths[] = {0, 1, 125, 126, 127, 65535, 65536};
    static uint8_t payload[65536], wire[ROOM];

    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(i ^ i >> 8);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (int masked = 0; masked < 2; masked++) {
            const uint8_t *key = masked ? (const uint8_t *)KEY : NULL;
            size_t n = put(wire, FWS_BINARY, true, payload, lengths[i], key);
            check_frame(wire, n, FWS_BINARY, true, payload, lengths[i], key);
        }
}

static void test_every_header_comes_back_and_none_of_its_prefixes_does(void)
{
    static const uint64_t lengths[] = {0,     1,     125,        126,        127,
                                       65535, 65536, 1ULL << 32, 1ULL << 62, INT64_MAX};
    static const unsigned opcodes[] = {0, 1, 2, 8, 9, 10};
    uint8_t wire[FWS_HEADER_MAX];

    for (unsigned i = 0; i < 10 * 6 * 8 * 2 * 2; i++) {
        uint64_t length = lengths[i % 10];
        unsigned opcode = opcodes[i / 10 % 6], rsv = i / 60 % 8;
        bool fin = i / 480 % 2, masked = i / 960;
        fws_header header;
        if (opcode >= FWS_CLOSE && (!fin || length > FWS_CONTROL_MAX))
            continue;
        size_t size =
            fws_header_encode(wire, opcode, fin, rsv, length, masked ? (const uint8_t *)KEY : NULL);
        for (size_t k = 0; k < size; k++)
            CHECK_EQ(fws_header_decode(at_edge(wire, k), k, &header), 0);
        CHECK_EQ(fws_header_decode(at_edge(wire, size), size, &header), size);
        CHECK_EQ(fws_header_size(length, masked), size);
        CHECK(header.length == length && header.opcode == opcode && header.rsv == rsv);
        CHECK(header.fin == fin && header.masked == masked);
        CHECK(!masked || memcmp(header.key, KEY, 4) == 0);
    }
}

/* The bytes are refused at the at-th byte, under every cut, and not earlier. */
static void check_refused(enum fws_role role, const uint8_t *bytes, size_t n, size_t at)
{
    static story told;

    for (size_t k = 0; k <= n; k++) {
        play_split(role, bytes, k, 0, &told);
        CHECK_EQ(told.status, k < at ? FWS_PIECE_MORE : FWS_E_PROTOCOL);
        play_split(role, bytes, n, k, &told);
        CHECK_EQ(told.status, FWS_E_PROTOCOL);
    }
    play_bytewise(role, bytes, n, &told);
    CHECK_EQ(told.status, FWS_E_PROTOCOL);
}

static void test_illegal_headers_are_refused_at_the_byte_that_shows_it(void)
{
    static const struct {
        const char *wire;
        size_t n, at;
    } rows[] = {
        {"\x81\x05Hello", 7, 2},
        {"\x89\x00", 2, 2}, /* F01 F02 */
        {"\xc1\x80" KEY, 6, 1},
        {"\xa1\x80" KEY, 6, 1},
        {"\x92\x80" KEY, 6, 1},
        {"\xc9\x80" KEY, 6, 1},
        {"\xa8\x80" KEY, 6, 1},                                  /* F03-F07 */
        {"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x05" KEY, 14, 3}, /* F21 */
        {"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff" KEY, 14, 3},
        {"\x89\xfe\x00\x7e" KEY, 8, 2},
        {"\x88\xff\x00\x00", 4, 2}, /* F24 F25 */
        {"\x09\x80" KEY, 6, 1},
        {"\x08\x80" KEY, 6, 1},
        {"\x0a\x80" KEY, 6, 1}, /* F26-F28 */
        {"\x82\xfe\x00\x7d" KEY, 8, 4},
        {"\x82\xfe\x00\x00" KEY, 8, 4},                          /* F30 */
        {"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff" KEY, 14, 8}, /* F31 */
        {"GET / HTTP/1.1\r\n", 16, 1},                           /* F32 */
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_refused(FWS_SERVER, (const uint8_t *)rows[i].wire, rows[i].n, rows[i].at);
    check_refused(FWS_CLIENT, LITERAL("\x81\x85" KEY "Hello"), 2);
    check_refused(FWS_CLIENT, LITERAL("\x82\x7e\x00\x7d"), 4);
}

static void test_reserved_opcodes_are_refused_also_after_a_good_frame(void) /* F10-F20 */
{
    uint8_t wire[] = "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x80\x80" KEY;

    for (unsigned opcode = 3; opcode < 16; opcode++) {
        if (opcode >= 8 && opcode <= 10)
            continue;
        wire[11] = (uint8_t)(0x80 | opcode);
        check_refused(FWS_SERVER, wire + 11, 6, 1);
        check_refused(FWS_SERVER, wire, 17, 12);
    }
}

static void test_largest_legal_length_is_told_and_not_judged(void) /* F22: for message.h */
{
    static story told;
    uint64_t length;

    play_split(FWS_SERVER, LITERAL("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff" KEY), 5, &told);
    CHECK_EQ(told.status, FWS_PIECE_MORE);
    memcpy(&length, told.bytes + 4, sizeof length);
    CHECK(length == INT64_MAX);
}

static void test_an_allowed_rsv_bit_passes_alone(void)
{
    for (unsigned rsv = 0; rsv < 8; rsv++) {
        static story told;
        uint8_t wire[] = {(uint8_t)(0x81 | rsv << 4), 0x01, 'x'};
        fws_parser parser;

        fws_parser_init(&parser, FWS_CLIENT);
        parser.rsv_allowed = 4;
        feed(&parser, fresh(&told), wire, sizeof wire);
        CHECK_EQ(told.status, rsv & 3 ? FWS_E_PROTOCOL : FWS_PIECE_MORE);
        CHECK(rsv & 3 || told.bytes[2] == rsv);
    }
}

static void test_an_empty_frame_ends_without_further_input(void)
{
    fws_parser parser;
    uint8_t *data = at_edge(LITERAL("\x81\x80" KEY)), *piece;
    size_t n = 6, piece_n;

    fws_parser_init(&parser, FWS_SERVER);
    CHECK_EQ(fws_parser_next(&parser, &data, &n, &piece, &piece_n), FWS_PIECE_HEADER);
    CHECK_EQ(n, 0);
    CHECK_EQ(fws_parser_next(&parser, &data, &n, &piece, &piece_n), FWS_PIECE_END);
    CHECK_EQ(fws_parser_next(&parser, &data, &n, &piece, &piece_n), FWS_PIECE_MORE);
}

static void test_pipelined_frames_survive_every_cut(void)
{
    static uint8_t wire[1024];
    static story expected;
    size_t n = 0;

    n += put(wire + n, FWS_TEXT, false, LITERAL("first "), (const uint8_t *)KEY);
    n += put(wire + n, FWS_PING, true, LITERAL(""), (const uint8_t *)"\0\0\0\0");
    n += put(wire + n, FWS_CONTINUATION, true, (const uint8_t[200]){1, 2}, 200,
             (const uint8_t *)KEY);
    n += put(wire + n, FWS_CLOSE, true, LITERAL("\x03\xe8"), (const uint8_t *)KEY);
    play_split(FWS_SERVER, wire, n, 0, &expected);
    CHECK_EQ(expected.frames, 4);
    check_every_split(FWS_SERVER, wire, n, &expected);
}

int main(void)
{
    edge = guarded(ROOM) + ROOM;
    RUN(test_samples_of_rfc_6455_5_7_encode_and_decode);
    RUN(test_long_samples_of_rfc_6455_5_7_encode_and_decode);
    RUN(test_every_length_form_survives_every_cut);
    RUN(test_every_header_comes_back_and_none_of_its_prefixes_does);
    RUN(test_illegal_headers_are_refused_at_the_byte_that_shows_it);
    RUN(test_reserved_opcodes_are_refused_also_after_a_good_frame);
    RUN(test_largest_legal_length_is_told_and_not_judged);
    RUN(test_an_allowed_rsv_bit_passes_alone);
    RUN(test_an_empty_frame_ends_without_further_input);
    RUN(test_pipelined_frames_survive_every_cut);
    return 0;
}
