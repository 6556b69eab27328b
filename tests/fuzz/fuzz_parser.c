/* The frame parser: however the input is cut it tells the same, what it tells encodes to the bytes
 * that it took, and it never reads past what it was given. */
#include "wire/frame.h"
#include "fuzz.h"

#define ROOM (1U << 17)

typedef struct told {
    uint8_t wire[ROOM]; /* the frames told of, encoded again */
    size_t n;
    uint64_t frames, ends;
    int status;
} told;

static uint8_t *edge; /* the page behind it must not be touched */

static void tell_header(told *story, const fws_header *header)
{
    CHECK(story->n + FWS_HEADER_MAX <= ROOM && story->frames == story->ends);
    story->n += fws_header_encode(story->wire + story->n, header->opcode, header->fin, header->rsv,
                                  header->length, header->masked ? header->key : NULL);
    story->frames++;
}

static void tell_payload(told *story, const fws_header *header, const uint8_t *piece, size_t n,
                         uint64_t before)
{
    CHECK(n > 0 && story->n + n <= ROOM && before + n <= header->length);
    for (size_t i = 0; i < n; i++) /* RFC 6455 5.3, byte by byte */
        story->wire[story->n++] = piece[i] ^ (header->masked ? header->key[(before + i) % 4] : 0);
}

static void feed(told *story, fws_parser *parser, uint64_t *taken, const uint8_t *data, size_t n)
{
    uint8_t *at = memcpy(edge - n, data, n), *piece;
    size_t piece_n;
    while ((story->status = fws_parser_next(parser, &at, &n, &piece, &piece_n)) > 0) {
        CHECK(at == edge - n);
        if (story->status == FWS_PIECE_HEADER) {
            tell_header(story, &parser->header);
            *taken = 0;
        } else if (story->status == FWS_PIECE_PAYLOAD) {
            tell_payload(story, &parser->header, piece, piece_n, *taken);
            *taken += piece_n;
        } else {
            CHECK(*taken == parser->header.length);
            story->ends++;
        }
    }
    CHECK(story->status < 0 || n == 0);
}

static void play(told *story, uint8_t flags, fuzz_input input, fuzz_cuts cuts)
{
    fws_parser parser;
    uint64_t taken = 0;
    const uint8_t *start = input.at;
    fws_parser_init(&parser, flags & 1 ? FWS_CLIENT : FWS_SERVER);
    parser.rsv_allowed = flags >> 5;
    story->n = 0;
    story->frames = story->ends = 0;
    story->status = 0;
    while (input.n > 0 && story->status >= 0) {
        size_t n = fuzz_cut(&cuts, input.n);
        feed(story, &parser, &taken, input.at, n);
        input.at += n;
        input.n -= n;
    }
    CHECK(story->n <= (size_t)(input.at - start) && memcmp(story->wire, start, story->n) == 0);
    if (story->status >= 0 && parser.in_frame == 0)
        CHECK(story->n + parser.have == (size_t)(input.at - start));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static told whole, cut;
    fuzz_input input = {data, n};
    uint8_t flags = fuzz_byte(&input);
    fuzz_cuts cuts[] = {fuzz_take_cuts(&input), FUZZ_BYTEWISE};
    if (input.n > ROOM / 2)
        return 0;
    if (edge == NULL)
        edge = guarded(ROOM) + ROOM;
    play(&whole, flags, input, FUZZ_WHOLE);
    for (int i = 0; i < 2; i++) {
        play(&cut, flags, input, cuts[i]);
        CHECK(cut.status == whole.status && cut.frames == whole.frames && cut.ends == whole.ends);
        CHECK(cut.n == whole.n && memcmp(cut.wire, whole.wire, cut.n) == 0);
    }
    return 0;
}
