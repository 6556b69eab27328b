/* The message layer: however the input is cut it hands out the same messages and ends with the same
 * status; what it hands out keeps the limits; what it holds grows with bytes received. */
#include "fuzz.h"
#include "wire/message.h"
#include "wire/utf8.h"

#define INPUT_MAX 8192U

typedef struct told { /* of one message */
    uint64_t len, sum;
    uint16_t code;
    uint8_t opcode;
} told;

typedef struct tale {
    told messages[INPUT_MAX / 2]; /* a message takes two bytes or more */
    size_t n;
} tale;

static uint8_t *edge; /* the page behind it must not be touched */
static fws_deflate *codec;

static void tell(tale *story, const fws_message *message)
{
    told *out = &story->messages[story->n++];
    CHECK(story->n <= INPUT_MAX / 2);
    *out = (told){.len = message->len, .code = message->code, .opcode = message->opcode};
    for (size_t i = 0; i < message->len; i++) /* FNV-1a */
        out->sum = (out->sum ^ message->data[i]) * 0x100000001B3ULL;
}

static void check_message(const fws_limits *limits, const fws_message *message)
{
    bool text = message->opcode == FWS_TEXT || message->opcode == FWS_CLOSE;
    bool control = message->opcode >= FWS_CLOSE;
    CHECK(control ? message->len <= FWS_CONTROL_MAX : message->len <= limits->max_message_size);
    CHECK(!text || fws_utf8_feed(0, message->data, message->len) == FWS_UTF8_ACCEPT);
    CHECK((message->opcode == FWS_CLOSE) == (message->code != 0));
    CHECK(message->code == 0 || message->code == 1005 || fws_close_code_valid(message->code));
    CHECK(message->code != 1005 || message->len == 0);
}

static int feed_piece(fws_reader *reader, const fws_limits *limits, const uint8_t *data, size_t n,
                      tale *story)
{
    uint8_t *at = memcpy(edge - n, data, n);
    fws_message message;
    int status;
    while ((status = fws_reader_next(reader, limits, &at, &n, &message)) == 1) {
        CHECK(at == edge - n && message.data != NULL);
        check_message(limits, &message);
        tell(story, &message);
        free(message.owned);
    }
    CHECK(status < 0 || (status == 0 && n == 0));
    CHECK(reader->compressed || reader->have <= limits->max_message_size);
    CHECK(reader->have <= reader->capacity);
    CHECK(reader->fragments <= limits->max_fragments || status < 0);
    return status;
}

static int play_cut(uint8_t flags, const fws_limits *limits, fuzz_input input, fuzz_cuts cuts,
                    tale *story)
{
    fws_reader reader;
    size_t received = 0;
    int status = 0;
    story->n = 0;
    fws_reader_init(&reader, flags & 1 ? FWS_CLIENT : FWS_SERVER);
    if (flags & 0x80 && codec != NULL)
        fws_reader_inflate(&reader, codec);
    while (input.n > 0 && status == 0) {
        size_t n = fuzz_cut(&cuts, input.n);
        status = feed_piece(&reader, limits, input.at, n, story);
        received += n;
        CHECK(reader.capacity <= 4096 + 4 * received); /* never with bytes declared */
        input.at += n;
        input.n -= n;
    }
    fws_reader_clear(&reader);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static tale whole, cut;
    fuzz_input input = {data, n};
    uint8_t flags = fuzz_byte(&input);
    const fws_limits limits = {.max_message_size = fuzz_word(&input),
                               .max_fragments = 1 + fuzz_byte(&input)};
    fuzz_cuts cuts[] = {fuzz_take_cuts(&input), FUZZ_BYTEWISE};
    if (input.n > INPUT_MAX)
        return 0;
    if (edge == NULL)
        edge = guarded(INPUT_MAX) + INPUT_MAX, codec = fws_deflate_new();
    int status = play_cut(flags, &limits, input, FUZZ_WHOLE, &whole);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(play_cut(flags, &limits, input, cuts[i], &cut), status);
        CHECK_EQ(cut.n, whole.n);
        CHECK(memcmp(cut.messages, whole.messages, cut.n * sizeof *cut.messages) == 0);
    }
    return 0;
}
