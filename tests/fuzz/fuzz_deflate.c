/* Compression: what is compressed inflates to itself; any bytes inflate as zlib alone does it in
 * one go, never past the limit; nothing is left over from one message to the next. */
#include "wire/deflate.h"
#include "fuzz.h"
#include "wire/status.h"

#if !FWS_NO_DEFLATE
#include <zlib.h>

#define OUTPUT_MAX (1U << 18)

static uint8_t slow_output[OUTPUT_MAX + 1];

/* The bytes that zlib makes of a message; -1 when it is none, is as good as endless, or is cut off
 * so that the four bytes of RFC 7692 7.2.2 become part of it; -2 when it has a last block,
 * behind which there may be others (7.2.3.4): that is not judged here. */
static int64_t slow_inflate(const uint8_t *data, size_t n)
{
    static const uint8_t tail[4] = {0x00, 0x00, 0xff, 0xff};
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)data, .avail_in = (uInt)n};
    stream.next_out = slow_output;
    stream.avail_out = sizeof slow_output;
    CHECK(inflateInit2(&stream, -15) == Z_OK);
    int status = inflate(&stream, Z_SYNC_FLUSH);
    uLong total = stream.total_out;
    if ((status == Z_OK || status == Z_BUF_ERROR) && stream.avail_in == 0) {
        stream.next_in = (Bytef *)(uintptr_t)tail;
        stream.avail_in = sizeof tail;
        status = inflate(&stream, Z_SYNC_FLUSH);
    }
    bool whole = (status == Z_OK || status == Z_BUF_ERROR) && stream.avail_in == 0
                 && (stream.data_type & 0xBF) == 0x80 && stream.total_out == total;
    int64_t size = status == Z_STREAM_END ? -2 : whole ? (int64_t)total : -1;
    if (stream.avail_out == 0)
        size = -1;
    inflateEnd(&stream);
    return size;
}

static void check_inflate(fws_deflate *codec, const uint8_t *data, size_t n, uint64_t limit)
{
    int64_t expected = n == 0 ? 0 : slow_inflate(data, n);
    uint8_t *out;
    size_t out_n;
    int status = fws_inflate_message(codec, data, n, limit, &out, &out_n);
    CHECK(status == FWS_OK || status == FWS_E_DATA || status == FWS_E_TOO_BIG);
    if (expected >= 0)
        CHECK_EQ(status, (uint64_t)expected <= limit ? FWS_OK : FWS_E_TOO_BIG);
    if (expected == -1)
        CHECK(status != FWS_OK);
    if (status != FWS_OK)
        return;
    CHECK(out != NULL && out_n <= limit);
    CHECK(expected < 0 || (out_n == (size_t)expected && memcmp(out, slow_output, out_n) == 0));
    free(out);
}

static void check_round_trip(fws_deflate *codec, unsigned window, const uint8_t *data, size_t n)
{
    const uint8_t *small;
    uint8_t *out;
    size_t out_n, small_n = fws_deflate_message(codec, window, data, n, &small);
    CHECK(small_n < n || small_n == 0);
    if (small_n == 0)
        return;
    CHECK_EQ(fws_inflate_message(codec, small, small_n, n, &out, &out_n), FWS_OK);
    CHECK(out_n == n && memcmp(out, data, n) == 0);
    free(out);
    CHECK_EQ(fws_inflate_message(codec, small, small_n, n - 1, &out, &out_n), FWS_E_TOO_BIG);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static fws_deflate *codec;
    fuzz_input input = {data, n};
    uint64_t limit = fuzz_word(&input) * 2;
    unsigned window = FWS_WINDOW_MIN + fuzz_byte(&input) % (FWS_WINDOW_MAX - FWS_WINDOW_MIN + 1);
    if (codec == NULL && (codec = fws_deflate_new()) == NULL)
        return 0;
    if (input.n > 16384)
        return 0;
    check_inflate(codec, input.at, input.n, limit);
    check_round_trip(codec, window, input.at, input.n);
    check_inflate(codec, input.at, input.n, limit);
    return 0;
}
#else
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    (void)data, (void)n;
    CHECK(!fws_deflate_available());
    return 0;
}
#endif
