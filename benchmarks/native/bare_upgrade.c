/* What the kernel allows of handshakes: accepts, answers each request for a WebSocket with its 101.
 *
 *     bare_upgrade --seconds S --port P
 *
 * One recv and one send for each connection, which then stays open until the peer closes it. Only the
 * key of a request is looked for (RFC 6455 4.2.2), nothing else is validated. A request that has not
 * come whole ends its connection. Ends after S seconds. Nothing here is fastws.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROOM 4096U
#define MAX_EVENTS 256
#define KEY_N 24U
#define BLOCK 64U

static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455 1.3 */
static const char wanted[] = "Sec-WebSocket-Key: ";

static void die(const char *why)
{
    fprintf(stderr, "bare_upgrade: %s%s%s\n", why, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(2);
}

static uint32_t left(uint32_t word, int bits)
{
    return word << bits | word >> (32 - bits);
}

/* One block of SHA-1 (RFC 3174 6.1). */
static void sha1_block(uint32_t h[5], const uint8_t block[BLOCK])
{
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16
               | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 80; i++)
        w[i] = left(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t f = i < 20   ? (b & c) | (~b & d)
                     : i < 40 ? b ^ c ^ d
                     : i < 60 ? (b & c) | (b & d) | (c & d)
                              : b ^ c ^ d;
        static const uint32_t k[] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
        uint32_t next = left(a, 5) + f + e + w[i] + k[i / 20];
        e = d, d = c, c = left(b, 30), b = a, a = next;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

/* Sec-WebSocket-Accept of a key: 28 characters. */
static void accept_of(const char *key, char out[28])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    const size_t n = KEY_N + sizeof guid - 1;
    uint8_t text[2 * BLOCK] = {0}, sum[21] = {0};
    memcpy(text, key, KEY_N);
    memcpy(text + KEY_N, guid, sizeof guid - 1);
    text[n] = 0x80;
    text[sizeof text - 2] = (uint8_t)(n * 8 >> 8);
    text[sizeof text - 1] = (uint8_t)(n * 8);
    sha1_block(h, text);
    sha1_block(h, text + BLOCK);
    for (int i = 0; i < 20; i++)
        sum[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
    for (int i = 0; i < 7; i++) {
        uint32_t three =
            (uint32_t)sum[3 * i] << 16 | (uint32_t)sum[3 * i + 1] << 8 | sum[3 * i + 2];
        for (int j = 0; j < 4; j++)
            out[4 * i + j] = digits[three >> (18 - 6 * j) & 63];
    }
    out[27] = '=';
}

/* 0: the peer has closed, or asks for something else. */
static int answer(int fd)
{
    static char in[ROOM + 1];
    char out[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Accept: 0123456789012345678901234567\r\n\r\n";
    const ssize_t size = sizeof out - 1;
    ssize_t got = recv(fd, in, ROOM, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 1;
    if (got <= 0)
        return 0;
    in[got] = '\0';
    const char *key = strstr(in, wanted);
    if (key == NULL || strlen(key) < sizeof wanted - 1 + KEY_N)
        return 0;
    accept_of(key + sizeof wanted - 1, out + size - 32);
    return send(fd, out, (size_t)size, MSG_NOSIGNAL) == size;
}

static int listening(uint16_t port)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0
        || bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 4096) < 0)
        die("a port");
    return fd;
}

static void take(int listener, int epoll)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK), on = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        die("a socket");
}

int main(int argc, char **argv)
{
    double seconds = argc == 5 && strcmp(argv[1], "--seconds") == 0 ? strtod(argv[2], NULL) : 0;
    if (!(seconds > 0 && seconds <= 86400) || strcmp(argv[3], "--port") != 0)
        die("--seconds S --port P");
    alarm((unsigned)seconds + 1);
    int listener = listening((uint16_t)atoi(argv[4])), epoll = epoll_create1(0);
    struct epoll_event events[MAX_EVENTS] = {{.events = EPOLLIN, .data.fd = listener}};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, events) < 0)
        die("epoll");
    for (;;) {
        int ready = epoll_wait(epoll, events, MAX_EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == listener)
                take(listener, epoll);
            else if (!answer(events[i].data.fd))
                close(events[i].data.fd);
        }
    }
}
