/* The message layer: however the input is cut it hands out the same messages and ends with the same
 * status; what it hands out keeps the limits; what it holds grows with bytes received. */
#include "fuzz.h"
#include "message.h"
#include "utf8.h"

#define INPUT_MAX 8192U
#define ROOM (INPUT_MAX * 8) /* a message takes two bytes or more, and six more to tell */

typedef struct bytes {
    uint8_t at[ROOM];
    size_t n;
} bytes;

static uint8_t *edge; /* the page behind it must not be touched */

static void tell(bytes *story, const fws_message *message)
{
    uint8_t *out = story->at + story->n;
    CHECK(story->n + 6 + message->len <= ROOM);
    out[0] = message->opcode;
    out[1] = (uint8_t)(message->code >> 8);
    out[2] = (uint8_t)message->code;
    for (int i = 0; i < 3; i++)
        out[3 + i] = (uint8_t)(message->len >> 8 * i);
    if (message->len > 0)
        memcpy(out + 6, message->data, message->len);
    story->n += 6 + message->len;
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
                      bytes *story)
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
    CHECK(reader->have <= limits->max_message_size && reader->have <= reader->capacity);
    CHECK(reader->fragments <= limits->max_fragments || status < 0);
    return status;
}

static int play_cut(enum fws_role role, const fws_limits *limits, fuzz_input input, fuzz_cuts cuts,
                    bytes *story)
{
    fws_reader reader;
    size_t received = 0;
    int status = 0;
    story->n = 0;
    fws_reader_init(&reader, role);
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
    static bytes whole, cut;
    fuzz_input input = {data, n};
    enum fws_role role = fuzz_byte(&input) & 1 ? FWS_CLIENT : FWS_SERVER;
    const fws_limits limits = {.max_message_size = fuzz_word(&input),
                               .max_fragments = 1 + fuzz_byte(&input)};
    fuzz_cuts cuts[] = {fuzz_take_cuts(&input), FUZZ_BYTEWISE};
    if (input.n > INPUT_MAX)
        return 0;
    if (edge == NULL)
        edge = guarded(INPUT_MAX) + INPUT_MAX;
    int status = play_cut(role, &limits, input, FUZZ_WHOLE, &whole);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(play_cut(role, &limits, input, cuts[i], &cut), status);
        CHECK_EQ(cut.n, whole.n);
        CHECK(memcmp(cut.at, whole.at, cut.n) == 0);
    }
    return 0;
}
