#include "bench/meter.h"

#include "bench/tick_check.h"
#include "wire/frame.h"
#include "wire/utf8.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

#define FIN 0x80U
#define SHORT_MAX 125U /* RFC 6455 5.2: 126 and 127 announce more length, bit 7 a mask */
#define LONGER 126U    /* two more bytes of length, the higher one first */

void fws_meter_init(fws_meter *meter)
{
    memset(meter, 0, sizeof *meter);
    meter->until_sample = 1;
}

/* Bytes of the header of a frame that short_frame() has measured. */
static inline size_t header_of(const uint8_t *data)
{
    return data[1] > SHORT_MAX ? 4 : 2;
}

/* Size of the short whole data frame at data[0..n), else 0. RFC 6455 5.2: a length in two more
 * bytes is no less than 126. */
static inline size_t short_frame(const uint8_t *data, size_t n)
{
    if (n < 2 || (data[0] != (FIN | FWS_TEXT) && data[0] != (FIN | FWS_BINARY)))
        return 0;
    size_t size = data[1];
    if (size <= SHORT_MAX)
        return size <= n - 2 ? 2 + size : 0;
    if (size != LONGER || n < 4)
        return 0;
    size = (size_t)data[2] << 8 | data[3];
    return size > SHORT_MAX && size < FWS_METER_SHORT && size <= n - 4 ? 4 + size : 0;
}

/* Moves over at most `most` short frames; returns their bytes and says how many. */
static size_t step_over(const uint8_t *data, size_t n, uint64_t most, uint64_t *frames)
{
    size_t at = 0;
    uint64_t left = most;
    for (size_t size; left > 0 && (size = short_frame(data + at, n - at)) > 0; left--)
        at += size;
    *frames = most - left;
    return at;
}

static void count(fws_meter *meter, fws_metered *client, uint64_t frames, size_t bytes)
{
    meter->frames += frames;
    meter->bytes += bytes;
    client->frames += frames;
    client->bytes += bytes;
}

static void note_error(fws_meter *meter, const char *wrong, const uint8_t *data, size_t n)
{
    meter->bad++;
    if (meter->first_error[0] != '\0')
        return;
    size_t room = sizeof meter->first_error;
    int head = snprintf(meter->first_error, room,
                        "frame %llu, %zu bytes: %s: ", (unsigned long long)meter->frames, n, wrong);
    size_t at = head < 0 ? 0 : (size_t)head;
    for (size_t i = 0; i < n && at + 1 < room; i++)
        meter->first_error[at++] = (char)(data[i] >= ' ' && data[i] <= '~' ? data[i] : '.');
    meter->first_error[at < room ? at : room - 1] = '\0';
}

static void expect_behind(fws_metered *client, uint64_t seq, uint64_t recent)
{
    client->next_seq = seq + 1;
    client->recent = recent | 1;
}

/* A number that is less than the expected one. */
static void step_back(fws_meter *meter, fws_metered *client, uint64_t seq)
{
    uint64_t back = client->next_seq - 1 - seq;
    if (back < 64 && (client->recent >> back & 1) != 0) {
        client->duplicates++;
        meter->duplicates++;
        return;
    }
    client->reordered++;
    meter->reordered++;
    if (back >= 64) {
        expect_behind(client, seq, 0);
        return;
    }
    client->recent |= 1ULL << back;
    if (client->missed > 0) { /* else it was sent before the first one that came */
        client->missed--;
        meter->missed--;
    }
}

static void follow_seq(fws_meter *meter, fws_metered *client, uint64_t seq)
{
    if (!client->seen_seq || seq == client->next_seq) {
        expect_behind(client, seq, client->seen_seq ? client->recent << 1 : 0);
    } else if (seq > client->next_seq) {
        uint64_t left_out = seq - client->next_seq;
        client->gaps++;
        meter->gaps++;
        client->missed += left_out;
        meter->missed += left_out;
        expect_behind(client, seq, left_out < 63 ? client->recent << (left_out + 1) : 0);
    } else {
        step_back(meter, client, seq);
    }
    client->seen_seq = true;
}

static void look_into(fws_meter *meter, fws_metered *client, unsigned opcode, const uint8_t *data,
                      size_t n, uint64_t now_ns)
{
    uint64_t ts_ns = 0, seq = 0;
    bool has_seq = false;
    meter->sampled++;
    const char *wrong = fws_tick_check(opcode, data, n, &ts_ns, &seq, &has_seq);
    if (wrong != NULL)
        note_error(meter, wrong, data, n);
    else if (meter->recording)
        fws_hist_add(&meter->latency, now_ns > ts_ns ? now_ns - ts_ns : 0);
    if (has_seq || client->seen_seq)
        follow_seq(meter, client, has_seq ? seq : client->next_seq);
}

static inline uint64_t load_le64(const uint8_t *data)
{
    uint64_t value;
    memcpy(&value, data, sizeof value);
    return le64toh(value);
}

/* The first comma of 16 bytes; 16: there is none. A byte equals a comma where the exclusive or is
 * 0, and the lowest bit that is left belongs to the first such byte. */
static inline size_t first_comma(const uint8_t *data)
{
    for (size_t at = 0; at < 16; at += 8) {
        uint64_t other = load_le64(data + at) ^ 0x2c2c2c2c2c2c2c2cULL;
        uint64_t found = (other - 0x0101010101010101ULL) & ~other & 0x8080808080808080ULL;
        if (found != 0)
            return at + (unsigned)__builtin_ctzll(found) / 8;
    }
    return 16;
}

/* Reads the seq of what is taken to be a tick, at least cost; false: look into it. In JSON the
 * price ends within 16 bytes from 25 on, and ,"ts": with 13 digits follows. */
static inline bool quick_seq(unsigned opcode, const uint8_t *data, size_t n, uint64_t *seq)
{
    if (opcode == FWS_BINARY) {
        if (n >= 36)
            *seq = load_le64(data + 20);
        return n >= 36;
    }
    if (n < 80)
        return false;
    const uint8_t *at = data + 25 + first_comma(data + 25) + 19, *end = data + n;
    if (memcmp(at, ",\"seq\":", 7) != 0)
        return false;
    uint64_t value = 0;
    for (at += 7; at < end && (unsigned)(*at - '0') < 10; at++)
        value = value * 10 + (unsigned)(*at - '0');
    *seq = value;
    return at < end && *at == ',';
}

/* The same as step_over(), with the number of each. */
static size_t step_numbered(fws_meter *meter, fws_metered *client, const uint8_t *data, size_t n,
                            uint64_t most, uint64_t now_ns, uint64_t *frames)
{
    size_t at = 0;
    uint64_t left = most, seq;
    for (size_t size; left > 0 && (size = short_frame(data + at, n - at)) > 0; left--) {
        size_t header = header_of(data + at);
        const uint8_t *payload = data + at + header;
        unsigned opcode = data[at] & 0x0FU;
        if (quick_seq(opcode, payload, size - header, &seq))
            follow_seq(meter, client, seq);
        else
            look_into(meter, client, opcode, payload, size - header, now_ns);
        at += size;
    }
    *frames = most - left;
    return at;
}

/* Any messages: k of them came together. */
static void note_arrival(fws_meter *meter, fws_metered *client, uint64_t k, uint64_t now_ns)
{
    uint64_t last = client->last_ns;
    client->last_ns = now_ns;
    if (!meter->recording)
        return;
    if (last != 0)
        fws_hist_add(&meter->latency, now_ns > last ? now_ns - last : 0);
    fws_hist_add_zeros(&meter->latency, k - 1);
}

static bool good_text(const uint8_t *data, size_t n)
{
    return fws_utf8_feed(FWS_UTF8_ACCEPT, data, n) == FWS_UTF8_ACCEPT;
}

static size_t scan_any(fws_meter *meter, fws_metered *client, const uint8_t *data, size_t n,
                       uint64_t now_ns)
{
    size_t at = 0;
    uint64_t frames = 0;
    for (size_t size; (size = short_frame(data + at, n - at)) > 0; frames++) {
        size_t header = header_of(data + at);
        if ((data[at] & 0x0FU) == FWS_TEXT && !good_text(data + at + header, size - header))
            break; /* the general way refuses it */
        at += size;
    }
    count(meter, client, frames, at);
    if (frames > 0)
        note_arrival(meter, client, frames, now_ns);
    return at;
}

size_t fws_meter_scan(fws_meter *meter, fws_metered *client, const uint8_t *data, size_t n,
                      uint64_t now_ns)
{
    if (meter->any)
        return scan_any(meter, client, data, n, now_ns);
    bool few = n < FWS_METER_FEW;
    size_t at = 0;
    for (;;) {
        uint64_t skip = few ? 0 : meter->until_sample - 1, skipped;
        size_t bytes = client->seen_seq
                           ? step_numbered(meter, client, data + at, n - at, skip, now_ns, &skipped)
                           : step_over(data + at, n - at, skip, &skipped);
        count(meter, client, skipped, bytes);
        meter->until_sample -= skipped;
        at += bytes;
        size_t size = skipped == skip ? short_frame(data + at, n - at) : 0;
        if (size == 0)
            return at;
        count(meter, client, 1, size);
        size_t header = header_of(data + at);
        look_into(meter, client, data[at] & 0x0FU, data + at + header, size - header, now_ns);
        meter->until_sample = few ? meter->until_sample : FWS_METER_EVERY;
        at += size;
    }
}

void fws_meter_message(fws_meter *meter, fws_metered *client, unsigned opcode, const uint8_t *data,
                       size_t n, size_t wire_bytes, uint64_t now_ns)
{
    count(meter, client, 1, wire_bytes);
    if (meter->any)
        note_arrival(meter, client, 1, now_ns);
    else
        look_into(meter, client, opcode, data, n, now_ns);
}
