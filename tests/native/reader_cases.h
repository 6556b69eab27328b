/* For the tests of messages: frames to play to a reader under every cut, and what it then
 * hands out, as bytes that can be compared. */
#ifndef FWS_STORY_H
#define FWS_STORY_H

#include "check.h"
#include "wire/mask.h"
#include "wire/message.h"

#define ROOM (1U << 18)
#define COUNT(array) (sizeof(array) / sizeof *(array))

static const uint8_t KEY[4] = {0x37, 0xFA, 0x21, 0x3D};
static const fws_limits WIDE = {1 << 20, 16384};
static uint8_t *edge; /* one past it is the guard page */

typedef struct bytes {
    uint8_t at[ROOM];
    size_t n;
} bytes;

static inline void add(bytes *to, const void *data, size_t n)
{
    CHECK(to->n + n <= sizeof to->at);
    memcpy(to->at + to->n, data, n);
    to->n += n;
}

/* A masked frame, as a client sends it. */
static inline void put(bytes *wire, unsigned opcode, bool fin, const void *payload, size_t n)
{
    uint8_t header[FWS_HEADER_MAX];

    add(wire, header, fws_header_encode(header, opcode, fin, 0, n, KEY));
    add(wire, payload, n);
    fws_mask(wire->at + wire->n - n, n, KEY, 0);
}

static inline void put_text(bytes *wire, unsigned opcode, bool fin, const char *payload)
{
    put(wire, opcode, fin, payload, strlen(payload));
}

/* What a reader hands out, as bytes, so that two stories can be compared. */
static inline void tell(bytes *story, unsigned opcode, unsigned code, const void *data, size_t n)
{
    uint8_t head[3] = {(uint8_t)opcode, (uint8_t)(code >> 8), (uint8_t)code};

    add(story, head, sizeof head);
    add(story, &n, sizeof n);
    add(story, data, n);
}

/* Returns the last status: 0 or an error. */
static inline int feed(fws_reader *reader, const fws_limits *limits, const uint8_t *data, size_t n,
                       bytes *story)
{
    uint8_t *at = memcpy(edge - n, data, n);
    fws_message message;
    int status;

    while ((status = fws_reader_next(reader, limits, &at, &n, &message)) == 1) {
        CHECK(at == edge - n && message.data != NULL);
        tell(story, message.opcode, message.code, message.data, message.len);
        free(message.owned);
    }
    CHECK(status < 0 || n == 0);
    return status;
}

/* Cut at each of the ascending positions; cuts NULL and count = wire->n: into single bytes. */
static inline int play(const fws_limits *limits, const bytes *wire, const size_t *cuts,
                       size_t count, bytes *story)
{
    fws_reader reader;
    size_t from = 0;
    int status = 0;

    story->n = 0;
    fws_reader_init(&reader, FWS_SERVER);
    for (size_t i = 0; i <= count && status == 0; i++) {
        size_t to = i == count ? wire->n : cuts ? cuts[i] : i;
        status = feed(&reader, limits, wire->at + from, to - from, story);
        from = to;
    }
    fws_reader_clear(&reader);
    return status;
}

/* The wire tells that story and ends with that status, whole, in two pieces, in bytes. */
static inline void check_story(const fws_limits *limits, const bytes *wire, const bytes *expected,
                               int status)
{
    static bytes story;

    for (size_t k = 0; k <= wire->n + 1; k++) {
        bool bytewise = k > wire->n;
        CHECK_EQ(play(limits, wire, bytewise ? NULL : &k, bytewise ? wire->n : 1, &story), status);
        CHECK_EQ(story.n, expected->n);
        CHECK(memcmp(story.at, expected->at, story.n) == 0);
    }
}

static inline bytes *fresh(bytes *some)
{
    some->n = 0;
    return some;
}

static bytes wire, expected; /* of the test that runs */

static inline void story_init(void)
{
    edge = guarded(ROOM) + ROOM;
}

#endif
