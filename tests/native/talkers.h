/* What peers say that takes its time: messages in many frames, piece by piece, with pings between
 * them, and answers to pings. Each is numbered, and heard whole and in order. */
#ifndef FWS_TEST_TALKERS_H
#define FWS_TEST_TALKERS_H

#include "clocks.h"

#define LONG_HEAD (sizeof(uint32_t) + sizeof(uint32_t)) /* number, size */

typedef struct talker {
    uint8_t *bytes; /* NULL: nothing is half said */
    size_t n, at;
    size_t pace;         /* bytes at once, at most */
    uint32_t said, got;  /* long messages */
    uint32_t pongs_owed; /* pings that it has not answered */
    size_t sips;         /* bytes that it reads now and then; 0: it reads as it likes */
    bool headless;       /* its request never ends */
    bool garbled;        /* it said what is no frame: nothing is known of what follows */
} talker;

static talker talkers[CLIENTS];
static uint64_t long_messages; /* that were heard */

static talker *talker_of(const one *who)
{
    return &talkers[who - ones];
}

static void talker_begin(const one *who)
{
    free(talker_of(who)->bytes);
    *talker_of(who) = (talker){0};
}

static void talkers_end(void)
{
    for (int i = 0; i < CLIENTS; i++)
        talker_begin(&ones[i]);
}

/* Whether it is in the middle of something, so that nothing else may be said. */
static bool talking(const one *who)
{
    return talker_of(who)->bytes != NULL;
}

static size_t add_frame(uint8_t *out, uint8_t first, const uint8_t *payload, size_t n)
{
    size_t size = client_frame(out, first & 0x0FU, payload, n);
    out[0] = first;
    return size;
}

/* Begins a message of n bytes (LONG_HEAD up) in so many frames; every other one may be followed by
 * a ping. */
static void begin_long(one *who, size_t n, size_t frames, bool pings, size_t pace)
{
    static uint8_t payload[PAYLOAD_MAX];
    talker *of = talker_of(who);
    const uint32_t head[] = {++of->said, (uint32_t)n};
    CHECK(of->bytes == NULL && n >= LONG_HEAD && n <= PAYLOAD_MAX && frames > 0);
    of->bytes = malloc(n + frames * 64);
    CHECK(of->bytes != NULL);
    of->n = of->at = 0;
    of->pace = pace;
    memcpy(payload, head, sizeof head);
    memcpy(payload + sizeof head, filling(of->said), n - sizeof head);
    for (size_t i = 0, at = 0; i < frames; i++) {
        size_t end = n * (i + 1) / frames;
        uint8_t first = (uint8_t)((i == 0 ? FWS_BINARY : 0) | (i + 1 == frames ? 0x80 : 0));
        of->n += add_frame(of->bytes + of->n, first, payload + at, end - at);
        at = end;
        if (!pings || i % 2 == 0 || i + 1 == frames)
            continue;
        of->n += client_frame(of->bytes + of->n, FWS_PING, &who->pings, sizeof who->pings);
        who->pings++;
    }
}

/* The next piece. */
static void say_on(one *who)
{
    talker *of = talker_of(who);
    size_t n = of->n - of->at < of->pace ? of->n - of->at : of->pace;
    fake_say(who->peer, of->bytes + of->at, n);
    of->at += n;
    if (of->at < of->n)
        return;
    free(of->bytes);
    of->bytes = NULL;
}

/* Between two things that it says. */
static void answer_ping(one *who)
{
    talker *of = talker_of(who);
    if (of->pongs_owed == 0 || talking(who) || of->garbled)
        return;
    of->pongs_owed = 0;
    say_frame(who->peer, FWS_PONG, NULL, 0);
}

static void heard_long(const one *who, const uint8_t *data, size_t n)
{
    talker *of = talker_of(who);
    uint32_t head[2];
    if (of->garbled)
        return;
    CHECK(n >= LONG_HEAD);
    memcpy(head, data, sizeof head);
    CHECK_EQ(head[0], ++of->got); /* each one, and in order */
    CHECK_EQ(head[1], n);
    CHECK(head[0] < of->said || !talking(who)); /* not before it was said */
    CHECK(memcmp(data + sizeof head, filling(head[0]), n - sizeof head) == 0);
    long_messages++;
}

#endif
