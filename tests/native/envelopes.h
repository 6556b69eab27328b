/* Messages of topics as clients with an envelope or batches get them; part of streams.h. */
#ifndef FWS_TEST_ENVELOPES_H
#define FWS_TEST_ENVELOPES_H

static inline bool begins(const uint8_t *data, size_t n, const char *with)
{
    return n >= strlen(with) && memcmp(data, with, strlen(with)) == 0;
}

/* Passes that text, which must be there. */
static inline void pass(const uint8_t **data, size_t *n, const char *text)
{
    CHECK(begins(*data, *n, text));
    *data += strlen(text);
    *n -= strlen(text);
}

static inline uint64_t pass_number(const uint8_t **data, size_t *n)
{
    uint64_t number = 0;
    const size_t before = *n;
    for (; *n > 0 && **data >= '0' && **data <= '9'; ++*data, --*n)
        number = number * 10 + (uint64_t)(**data - '0');
    CHECK(*n < before);
    return number;
}

/* The epoch, and the number before its first one. */
static inline void check_start(one *who, const uint8_t *data, size_t n)
{
    char *end;
    pass(&data, &n, "{\"epoch\":\"");
    const uint64_t epoch = strtoull((const char *)data, &end, 16);
    n -= (size_t)((const uint8_t *)end - data);
    data = (const uint8_t *)end;
    pass(&data, &n, "\",\"seq\":");
    const bool none = begins(data, n, "-1");
    if (none)
        pass(&data, &n, "-1");
    const uint64_t start = none ? 0 : pass_number(&data, &n) + 1;
    for (uint8_t i = 0; i < NAMES; i++) {
        seat *at = &who->seats[i];
        if (at->joined && lives[at->life].epoch == epoch && at->got == 0)
            at->began = at->start <= start; /* further on where its keys begin later */
    }
    if (begins(data, n, ","))
        pass(&data, &n,
             begins(data, n, ",\"recovered\":t") ? ",\"recovered\":true" : ",\"recovered\":false");
    pass(&data, &n, "}");
    CHECK_EQ(n, 0);
    began++;
}

static inline void check_loss(one *who, const uint8_t *data, size_t n)
{
    gap *said = &who->gaps[who->n_gaps++ % GAPS];
    pass(&data, &n, "{\"gap\":[");
    said->first = pass_number(&data, &n);
    pass(&data, &n, ",");
    said->last = pass_number(&data, &n);
    pass(&data, &n, "],\"reason\":\"");
    pass(&data, &n,
         begins(data, n, "s")   ? "slow\"}"
         : begins(data, n, "r") ? "retention\"}"
                                : "budget\"}");
    CHECK(n == 0 && said->first <= said->last);
    gaps_told++;
}

/* One message of a topic, data[0..n) at most; returns its size. The payloads are no JSON: what is
 * said to be such stands as it is. */
static inline size_t check_element(one *who, bool json, const uint8_t *data, size_t n)
{
    const uint8_t *at = data;
    size_t left = n;
    uint64_t seq = 0;
    uint32_t number;
    if (who->envelope && json) {
        pass(&at, &left, "{\"seq\":");
        seq = pass_number(&at, &left);
        if (begins(at, left, ",\"key\":")) { /* four bytes: the number of the key */
            pass(&at, &left, ",\"key\":\"\\u000");
            const uint64_t key = pass_number(&at, &left);
            pass(&at, &left, "\\u0000\\u0000\\u0000\"");
            CHECK(key > 0 && key < KEYS);
        }
        pass(&at, &left, ",\"data\":");
    } else if (who->envelope) {
        CHECK(left >= sizeof seq);
        memcpy(&seq, at, sizeof seq);
        at += sizeof seq;
        left -= sizeof seq;
    }
    CHECK(left >= sizeof number);
    memcpy(&number, at, sizeof number);
    CHECK(number < n_messages && messages[number].size <= left);
    const message *sent = check_data(who, at, messages[number].size);
    CHECK(sent->to == 0 && (!who->envelope || sent->seq == seq));
    at += sent->size;
    enclosed += who->envelope;
    if (who->envelope && json)
        CHECK(*at++ == '}');
    return (size_t)(at - data);
}

static inline void check_batch(one *who, bool json, const uint8_t *data, size_t n)
{
    uint32_t size, messages_n = 0;
    size_t left = n;
    if (json)
        pass(&data, &left, "[");
    for (bool more = true; more; messages_n++) {
        size = (uint32_t)left;
        if (!json) {
            CHECK(left > sizeof size);
            memcpy(&size, data, sizeof size);
            data += sizeof size;
            left -= sizeof size;
        }
        CHECK(size <= left);
        size_t took = check_element(who, json, data, size);
        CHECK(json || took == size);
        data += took;
        left -= took;
        more = json ? begins(data, left, ",") : left > 0;
        if (json)
            pass(&data, &left, more ? "," : "]");
    }
    CHECK(left == 0 && messages_n <= who->batch);
    batched += messages_n;
}

/* A message for it, sent directly: those have no envelope. By all of its bytes, because the u64 of
 * an envelope looks like the number of one. */
static inline bool is_direct(const one *who, const uint8_t *payload, size_t n)
{
    uint32_t number;
    if (n < sizeof number)
        return false;
    memcpy(&number, payload, sizeof number);
    return number < n_messages && messages[number].to == who->peer->tag
           && messages[number].size == n
           && memcmp(payload + sizeof number, filling(number), n - sizeof number) == 0;
}

static inline void check_message(one *who, uint8_t opcode, const uint8_t *payload, size_t n)
{
    const bool json = opcode == FWS_TEXT;
    if ((!who->envelope && who->batch == 0) || (!json && is_direct(who, payload, n)))
        (void)check_data(who, payload, n);
    else if (json && begins(payload, n, "{\"epoch\""))
        check_start(who, payload, n);
    else if (json && begins(payload, n, "{\"gap\""))
        check_loss(who, payload, n);
    else if (who->batch > 0)
        check_batch(who, json, payload, n);
    else
        CHECK_EQ(check_element(who, json, payload, n), n);
}

#endif
