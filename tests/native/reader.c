/* A server's reader as a filter, for tests in Python. Each request on stdin: max_message_size,
 * max_fragments, bytes on the wire (4 bytes each, of this machine's order), sizes of pieces (16
 * bytes, used in turn, 0: the rest), the wire. Each answer: for every message its opcode (1), code
 * (2), length (4) and bytes; then FF, the close code of the failure or 0 (2), and 0 (4). */
#include "check.h"
#include "wire/message.h"

#define ROOM (1U << 20)

static uint8_t *edge; /* the page behind it must not be touched */

static void answer(uint8_t opcode, uint16_t code, const uint8_t *data, uint32_t n)
{
    CHECK(fwrite(&opcode, 1, 1, stdout) == 1 && fwrite(&code, 2, 1, stdout) == 1);
    CHECK(fwrite(&n, 4, 1, stdout) == 1 && fwrite(data, 1, n, stdout) == n);
}

static int feed(fws_reader *reader, const fws_limits *limits, const uint8_t *data, size_t n)
{
    uint8_t *at = memcpy(edge - n, data, n);
    fws_message message;
    int status;
    while ((status = fws_reader_next(reader, limits, &at, &n, &message)) == 1) {
        answer(message.opcode, message.code, message.data, (uint32_t)message.len);
        free(message.owned);
        if (message.opcode == FWS_CLOSE)
            return 1; /* what follows is the caller's to ignore (RFC 6455 5.5.1) */
    }
    return status;
}

int main(void)
{
    static uint8_t wire[ROOM];
    uint32_t request[3];
    uint8_t sizes[16];
    edge = guarded(ROOM) + ROOM;
    while (fread(request, 4, 3, stdin) == 3) {
        const fws_limits limits = {.max_message_size = request[0], .max_fragments = request[1]};
        size_t left = request[2], at = 0;
        fws_reader reader;
        int status = 0;
        CHECK(left <= ROOM && fread(sizes, 1, 16, stdin) == 16);
        CHECK(fread(wire, 1, left, stdin) == left);
        fws_reader_init(&reader, FWS_SERVER);
        for (uint32_t i = 0; left > 0 && status == 0; i++) {
            size_t n = sizes[i % 16] == 0 || sizes[i % 16] > left ? left : sizes[i % 16];
            status = feed(&reader, &limits, wire + at, n);
            at += n;
            left -= n;
        }
        fws_reader_clear(&reader);
        answer(0xFF, status < 0 ? fws_close_code(status) : 0, wire, 0);
        fflush(stdout);
    }
    return 0;
}
