#include "wire/deflate.h"

#include <stdlib.h>

#include "wire/status.h"

#if !FWS_NO_DEFLATE

#define ZLIB_CONST
#include <zlib.h>

/* Measured on order books of 400 B, 4 KB and 60 KB: level 2 takes 0.8, 0.5 and 0.25 of the time
 * of level 6, for 4, 8 and 19 % more bytes. The hash table is cleared for each message: a small
 * one makes short messages cheaper by a fifth and changes nothing in long ones. */
#define LEVEL 2
#define MEMORY_LEVEL 5
#define TAIL_N 4
#define FIRST_ROOM 256u
/* What does not shrink costs most (35 ns a byte with a window of 512 bytes), so a look at the
 * beginning of a large message, and at each piece of it. */
#define PROBE 4096u
#define PIECE 16384u

struct fws_deflate {
    z_stream inflater, deflaters[FWS_WINDOW_MAX + 1]; /* state NULL: not made yet */
    uint8_t *room;
    size_t capacity;
    uint64_t calls;
    uint64_t (*now)(void); /* NULL: no bound */
    uint64_t budget;
};

bool fws_deflate_available(void)
{
    return true;
}

fws_deflate *fws_deflate_new(void)
{
    return calloc(1, sizeof(fws_deflate));
}

void fws_deflate_free(fws_deflate *codec)
{
    if (codec == NULL)
        return;
    for (unsigned bits = FWS_WINDOW_MIN; bits <= FWS_WINDOW_MAX; bits++)
        if (codec->deflaters[bits].state != NULL)
            deflateEnd(&codec->deflaters[bits]);
    if (codec->inflater.state != NULL)
        inflateEnd(&codec->inflater);
    free(codec->room);
    free(codec);
}

void fws_deflate_bound(fws_deflate *codec, uint64_t (*now)(void), uint64_t budget_ns)
{
    codec->now = budget_ns == 0 ? NULL : now;
    codec->budget = budget_ns;
}

uint64_t fws_deflate_calls(const fws_deflate *codec)
{
    return codec->calls;
}

static bool make_room(fws_deflate *codec, size_t n)
{
    if (n <= codec->capacity && codec->capacity <= FWS_DEFLATE_KEPT)
        return true;
    free(codec->room);
    codec->room = malloc(n);
    codec->capacity = codec->room == NULL ? 0 : n;
    return codec->room != NULL;
}

static z_stream *deflater(fws_deflate *codec, unsigned bits)
{
    z_stream *stream = &codec->deflaters[bits];
    int status = stream->state != NULL ? deflateReset(stream)
                                       : deflateInit2(stream, LEVEL, Z_DEFLATED, -(int)bits,
                                                      MEMORY_LEVEL, Z_DEFAULT_STRATEGY);
    return status == Z_OK ? stream : NULL;
}

/* False: it does not fit, so that it has not shrunk. */
static bool feed(z_stream *stream, size_t n, int flush)
{
    stream->avail_in = (uInt)n;
    return deflate(stream, flush) == Z_OK && stream->avail_in == 0 && stream->avail_out > 0;
}

static bool shrinks(const z_stream *stream)
{
    return stream->total_out < stream->total_in - stream->total_in / 16;
}

/* The beginning of a large message, up to its last part: *n is what that has, *stored whether it is
 * to be stored. False: the message is not worth it. */
static bool feed_pieces(const fws_deflate *codec, z_stream *stream, size_t *n, bool *stored)
{
    uint64_t began = codec->now == NULL ? 0 : codec->now();
    if (!feed(stream, PROBE, Z_BLOCK) || !shrinks(stream))
        return false;
    for (*n -= PROBE; *n > PIECE; *n -= PIECE) {
        if (!feed(stream, PIECE, Z_NO_FLUSH))
            return false;
        if (!shrinks(stream) || (codec->now != NULL && codec->now() - began >= codec->budget)) {
            *n -= PIECE;
            *stored = true;
            return deflateParams(stream, Z_NO_COMPRESSION, Z_DEFAULT_STRATEGY) == Z_OK;
        }
    }
    return true;
}

size_t fws_deflate_message(fws_deflate *codec, unsigned window_bits, const uint8_t *data, size_t n,
                           const uint8_t **out)
{
    if (n < FWS_DEFLATE_LEAST || n > UINT32_MAX / 2)
        return 0;
    z_stream *stream = deflater(codec, window_bits);
    size_t room = n - 1 + TAIL_N; /* more would not be worth it */
    if (stream == NULL || !make_room(codec, room))
        return 0;
    stream->next_in = data;
    stream->next_out = codec->room;
    stream->avail_out = (uInt)room;
    codec->calls++;
    bool stored = false;
    bool shrunk =
        (n <= PIECE || feed_pieces(codec, stream, &n, &stored)) && feed(stream, n, Z_SYNC_FLUSH);
    size_t left = stream->avail_out;
    if (stored)
        deflateEnd(stream); /* its level has changed: it is made anew */
    if (!shrunk)
        return 0;
    *out = codec->room;
    return room - left - TAIL_N; /* RFC 7692 7.2.1: 00 00 ff ff is not sent */
}

/* Output in the making. */
typedef struct growing {
    uint8_t *data;
    size_t n, capacity, most; /* most: one byte past the limit, which tells that it is passed */
    size_t blocks;            /* dynamic and final ones so far */
    size_t empty, n_before;   /* those that gave nothing; output before the present one */
} growing;

static bool grow(growing *out)
{
    size_t capacity = out->capacity <= out->most / 2 ? out->capacity * 2 : out->most;
    uint8_t *data = realloc(out->data, capacity);
    if (data == NULL)
        return false;
    out->data = data;
    out->capacity = capacity;
    return true;
}

/* Whether a dynamic block begins where the stream stands between two: its tables cost far more than
 * their bytes. Its header is in the unused bits of the last byte and the next one (RFC 1951 3.2.3). */
static bool is_dynamic(const z_stream *stream, const uint8_t *data)
{
    unsigned unused = (unsigned)stream->data_type & 7;
    unsigned bits = stream->next_in == data ? 0 : (unsigned)stream->next_in[-1] >> (8 - unused);
    if (stream->avail_in > 0)
        bits |= (unsigned)stream->next_in[0] << unused;
    return (bits >> 1 & 3) == 2;
}

static bool too_many_blocks(const growing *out)
{
    return out->blocks > FWS_BLOCKS + out->n / FWS_BLOCK_BYTES
           || out->empty > FWS_EMPTY_BLOCKS + out->n;
}

/* Feeds one piece; a stream that ends within it begins anew (RFC 7692 7.2.3.5: blocks may follow
 * one with BFINAL set). */
static int inflate_piece(z_stream *stream, const uint8_t *data, size_t n, growing *out)
{
    stream->next_in = data;
    stream->avail_in = (uInt)n;
    for (;;) {
        if (out->n == out->capacity && !grow(out))
            return FWS_E_NOMEM;
        stream->next_out = out->data + out->n;
        size_t room = out->capacity - out->n;
        stream->avail_out = room > UINT32_MAX ? UINT32_MAX : (uInt)room;
        room = stream->avail_out;
        int status = inflate(stream, Z_BLOCK);
        out->n += room - stream->avail_out;
        if (status == Z_OK && (stream->data_type & 0xC0) == 0x80) { /* between two (zlib.h) */
            out->blocks += is_dynamic(stream, data);
            out->empty += out->n == out->n_before;
            out->n_before = out->n;
        }
        if (out->n == out->most || too_many_blocks(out))
            return FWS_E_TOO_BIG;
        if (status == Z_STREAM_END) {
            if (stream->avail_in == 0)
                return 1;
            inflateReset(stream);
            out->blocks++;
        } else if (status == Z_MEM_ERROR) {
            return FWS_E_NOMEM;
        } else if (status != Z_OK && status != Z_BUF_ERROR) {
            return FWS_E_DATA;
        } else if (stream->avail_in == 0 && stream->avail_out > 0
                   && (stream->data_type & 0xC0)
                          != 0xC0) { /* else the next call says that it ends */
            return FWS_OK;
        }
    }
}

static int inflate_whole(z_stream *stream, const uint8_t *data, size_t n, growing *out)
{
    static const uint8_t tail[TAIL_N] = {0x00, 0x00, 0xff, 0xff}; /* RFC 7692 7.2.2 */
    if (n == 0)
        return FWS_OK; /* not what RFC 7692 7.2.3.6 says, but some send it, and it is clear */
    int status = inflate_piece(stream, data, n, out);
    if (status != FWS_OK)
        return status < 0 ? status : FWS_OK;
    size_t before = out->n;
    status = inflate_piece(stream, tail, sizeof tail, out);
    if (status < 0)
        return status;
    /* A message that is cut off takes the tail for data. Bit 7 (zlib.h): it stands between two
     * blocks; bits 0 to 5: how many bits it has not used. */
    bool ended = status == 1 || (stream->data_type & 0xBF) == 0x80;
    return ended && out->n == before ? FWS_OK : FWS_E_DATA;
}

int fws_inflate_message(fws_deflate *codec, const uint8_t *data, size_t n, uint64_t limit,
                        uint8_t **out, size_t *out_n)
{
    z_stream *stream = &codec->inflater;
    if (n > UINT32_MAX)
        return FWS_E_TOO_BIG;
    if ((stream->state != NULL ? inflateReset(stream) : inflateInit2(stream, -15)) != Z_OK)
        return FWS_E_NOMEM;
    growing result = {.most = limit < SIZE_MAX ? (size_t)limit + 1 : SIZE_MAX};
    result.capacity = n > FIRST_ROOM / 4 ? n * 2 : FIRST_ROOM / 2;
    if (!grow(&result))
        return FWS_E_NOMEM;
    int status = inflate_whole(stream, data, n, &result);
    if (status != FWS_OK) {
        free(result.data);
        return status;
    }
    *out = result.data;
    *out_n = result.n;
    return FWS_OK;
}

#else

bool fws_deflate_available(void)
{
    return false;
}

fws_deflate *fws_deflate_new(void)
{
    return NULL;
}

void fws_deflate_free(fws_deflate *codec)
{
    (void)codec;
}

void fws_deflate_bound(fws_deflate *codec, uint64_t (*now)(void), uint64_t budget_ns)
{
    (void)codec, (void)now, (void)budget_ns;
}

uint64_t fws_deflate_calls(const fws_deflate *codec)
{
    (void)codec;
    return 0;
}

size_t fws_deflate_message(fws_deflate *codec, unsigned window_bits, const uint8_t *data, size_t n,
                           const uint8_t **out)
{
    (void)codec, (void)window_bits, (void)data, (void)n, (void)out;
    return 0;
}

int fws_inflate_message(fws_deflate *codec, const uint8_t *data, size_t n, uint64_t limit,
                        uint8_t **out, size_t *out_n)
{
    (void)codec, (void)data, (void)n, (void)limit, (void)out, (void)out_n;
    return FWS_E_DATA;
}

#endif
