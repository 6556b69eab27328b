/* Subscribers that read at a given rate: all that comes, so many bytes a second, or nothing.
 *
 *     readers --port P --path /PATH --connections N [--read-rate BYTES] [--piece BYTES]
 *             [--receive-buffer BYTES]
 *
 * Opens N WebSockets at 127.0.0.1:P. Without --read-rate they take all that comes; with it each
 * takes pieces of --piece bytes at that rate; with 0 none of them reads. A message is binary and
 * begins with its number (u64, little endian) and with the time when it was published (u64, ns of
 * CLOCK_MONOTONIC). Numbers have to rise at each connection; those left out are counted.
 *
 * Prints `ready` when all are open. For each line of stdin it prints one line of JSON about the
 * time since the last one, and ends with stdin. Status 1: what came was wrong; 2: wrong arguments.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/hist.h"
#include "program.h"

#define ROOM (256U << 10)
#define FRAME_MAX 4096U /* of a message, with its header */
#define HEAD_MAX 4096U  /* of the answer to the request */
#define MAX_EVENTS 128
#define BATCH 256U /* handshakes under way */
#define ALL UINT64_MAX
#define STDIN_MARK UINT32_MAX
#define PING 0x89
#define CLOSE 0x88

typedef struct reader {
    int fd;          /* -1: it has ended */
    uint32_t n_kept; /* bytes of a frame that is not whole */
    uint8_t *kept;   /* made on demand */
    uint64_t next;   /* number that is due; 0: any */
} reader;

typedef struct window {
    uint64_t began, cpu;
    uint64_t messages, bytes, missing, slow_closed, ended;
    fws_hist age;
} window;

static uint16_t port;
static uint32_t n_readers;
static uint64_t read_rate = ALL, piece = 1024;
static int receive_buffer; /* 0: the kernel's own */
static const char *path = "/";
static reader *readers;
static int epoll;
static window since;
static uint8_t room[FRAME_MAX + ROOM];

static uint64_t word(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static void end_reader(reader *r, bool slow)
{
    close(r->fd);
    r->fd = -1;
    since.slow_closed += slow;
    since.ended++;
}

/* Answers with the same payload, masked with zeros (RFC 6455 5.5.3). */
static void answer_ping(const reader *r, const uint8_t *payload, size_t n)
{
    uint8_t pong[6 + 125] = {0x8a, (uint8_t)(0x80 | n)};
    memcpy(pong + 6, payload, n);
    (void)send(r->fd, pong, 6 + n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void take_message(reader *r, const uint8_t *payload, size_t n, uint64_t now)
{
    if (n < 16)
        die(1, "a message without number and time");
    const uint64_t number = word(payload), at = word(payload + 8);
    if (number < r->next)
        die(1, "a message came twice, or too late");
    since.missing += r->next == 0 ? 0 : number - r->next;
    r->next = number + 1;
    since.messages++;
    fws_hist_add(&since.age, now > at ? now - at : 0);
}

/* One whole frame; false: the connection has ended. */
static bool take_frame(reader *r, const uint8_t *frame, size_t header, size_t n, uint64_t now)
{
    const uint8_t *payload = frame + header;
    if (frame[0] == 0x82)
        take_message(r, payload, n, now);
    else if (frame[0] == PING)
        answer_ping(r, payload, n);
    else if (frame[0] == CLOSE)
        end_reader(r, n >= 2 && payload[0] == 1013 >> 8 && payload[1] == (1013 & 255));
    else
        die(1, "a frame of another kind");
    return r->fd >= 0;
}

/* Takes the whole frames; returns the bytes that are left. */
static size_t take_frames(reader *r, const uint8_t *at, size_t n, uint64_t now)
{
    while (n >= 2) {
        size_t header = 2, size = at[1];
        if (size == 126 && n < 4)
            break;
        if (size == 126) {
            size = (size_t)at[2] << 8 | at[3];
            header = 4;
        }
        if (at[1] > 126 || header + size > FRAME_MAX)
            die(1, "a frame that is masked or too large");
        if (n < header + size)
            break;
        if (!take_frame(r, at, header, size, now))
            return 0;
        at += header + size;
        n -= header + size;
    }
    return n;
}

/* Receives once, at most so many bytes; false: there is nothing. */
static bool receive(reader *r, size_t most)
{
    const size_t before = r->n_kept;
    if (before > 0)
        memcpy(room, r->kept, before);
    ssize_t n = recv(r->fd, room + before, most, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0) {
        end_reader(r, false);
        return false;
    }
    since.bytes += (uint64_t)n;
    const size_t all = before + (size_t)n;
    const size_t left = take_frames(r, room, all, clock_ns(CLOCK_MONOTONIC));
    if (left > 0 && r->kept == NULL && (r->kept = malloc(FRAME_MAX)) == NULL)
        die(1, "memory");
    if (left > 0)
        memcpy(r->kept, room + all - left, left);
    r->n_kept = (uint32_t)left;
    return true;
}

/* The beginning. */

static void dial(reader *r)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct linger reset = {.l_onoff = 1};
    char request[512];
    int n = snprintf(request, sizeof request,
                     "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                     path);
    r->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (r->fd < 0 || setsockopt(r->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) < 0)
        die(1, "a socket");
    if (receive_buffer > 0
        && setsockopt(r->fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer) < 0)
        die(1, "SO_RCVBUF");
    if (connect(r->fd, (struct sockaddr *)&to, sizeof to) < 0
        || send(r->fd, request, (size_t)n, MSG_NOSIGNAL) != n)
        die(1, "connect");
}

/* Takes the head of the answer, and nothing of what is behind it. */
static void expect_upgrade(const reader *r)
{
    const struct timeval patience = {.tv_sec = 30};
    char head[HEAD_MAX + 1];
    const char *end = NULL;
    if (setsockopt(r->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0)
        die(1, "SO_RCVTIMEO");
    for (int i = 0; end == NULL && i < 1000; i++) {
        ssize_t n = recv(r->fd, head, HEAD_MAX, MSG_PEEK);
        if (n <= 0)
            die(1, "a connection was closed instead of upgraded");
        head[n] = '\0';
        end = strstr(head, "\r\n\r\n");
        if (end == NULL)
            usleep(1000);
    }
    if (end == NULL || strncmp(head, "HTTP/1.1 101 ", 13) != 0)
        die(1, "a connection was not upgraded");
    (void)recv(r->fd, head, (size_t)(end + 4 - head), 0);
}

static void open_all(void)
{
    for (uint32_t i = 0; i < n_readers; i++) {
        dial(&readers[i]);
        if (i >= BATCH)
            expect_upgrade(&readers[i - BATCH]);
    }
    for (uint32_t i = n_readers > BATCH ? n_readers - BATCH : 0; i < n_readers; i++)
        expect_upgrade(&readers[i]);
    for (uint32_t i = 0; read_rate == ALL && i < n_readers; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, readers[i].fd, &event) < 0)
            die(1, "epoll");
    }
}

/* What was seen. */

static void begin_window(void)
{
    since = (window){.began = clock_ns(CLOCK_MONOTONIC), .cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID)};
}

static uint32_t count_open(void)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_readers; i++)
        n += readers[i].fd >= 0;
    return n;
}

/* As the kernel says it, of the first that is open: with what it adds for its own structures. */
static int kernel_buffer(void)
{
    int size = 0;
    socklen_t n = sizeof size;
    for (uint32_t i = 0; i < n_readers && size == 0; i++)
        if (readers[i].fd >= 0)
            (void)getsockopt(readers[i].fd, SOL_SOCKET, SO_RCVBUF, &size, &n);
    return size;
}

static double ms(double quantile)
{
    return (double)fws_hist_quantile(&since.age, quantile) / 1e6;
}

static void print_window(void)
{
    const double seconds = (double)(clock_ns(CLOCK_MONOTONIC) - since.began) / 1e9;
    const double cpu = (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - since.cpu) / 1e9;
    printf("{\"seconds\":%.3f,\"open\":%u,\"ended\":%" PRIu64 ",\"slow_closed\":%" PRIu64
           ",\"messages\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"missing\":%" PRIu64
           ",\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"p999_ms\":%.3f,\"max_ms\":%.3f"
           ",\"receive_buffer\":%d,\"busy\":%.3f}\n",
           seconds, count_open(), since.ended, since.slow_closed, since.messages, since.bytes,
           since.missing, ms(0.5), ms(0.99), ms(0.999), (double)since.age.max / 1e6,
           kernel_buffer(), cpu / seconds);
    fflush(stdout);
    begin_window();
}

/* A line of stdin; false: it has ended. */
static bool obey(void)
{
    char line[64];
    ssize_t n = read(STDIN_FILENO, line, sizeof line);
    for (ssize_t i = 0; i < n; i++)
        if (line[i] == '\n')
            print_window();
    return n > 0;
}

/* Each reader has its turn once in `piece / read_rate` seconds, evenly spread. */
static void read_slowly(uint64_t began, uint64_t *turns)
{
    const double seconds = (double)(clock_ns(CLOCK_MONOTONIC) - began) / 1e9;
    const double due = seconds * (double)read_rate / (double)piece * n_readers;
    for (; (double)*turns < due; ++*turns) {
        reader *r = &readers[*turns % n_readers];
        if (r->fd >= 0)
            (void)receive(r, piece);
    }
}

static void run(void)
{
    struct epoll_event events[MAX_EVENTS];
    const uint64_t began = clock_ns(CLOCK_MONOTONIC);
    const bool slow = read_rate != ALL && read_rate > 0;
    uint64_t turns = 0;
    for (;;) {
        int n = epoll_wait(epoll, events, MAX_EVENTS, slow ? 1 : -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.u32 == STDIN_MARK && !obey())
                return;
            if (events[i].data.u32 != STDIN_MARK)
                (void)receive(&readers[events[i].data.u32], ROOM);
        }
        if (slow)
            read_slowly(began, &turns);
    }
}

static void parse(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (strcmp(name, "--port") == 0)
            port = (uint16_t)atoi(value);
        else if (strcmp(name, "--path") == 0)
            path = value;
        else if (strcmp(name, "--connections") == 0)
            n_readers = (uint32_t)atoi(value);
        else if (strcmp(name, "--read-rate") == 0)
            read_rate = strtoull(value, NULL, 10);
        else if (strcmp(name, "--piece") == 0)
            piece = strtoull(value, NULL, 10);
        else if (strcmp(name, "--receive-buffer") == 0)
            receive_buffer = atoi(value);
        else
            die(2, "wrong option");
    }
    if (port == 0 || n_readers == 0 || piece == 0 || piece > ROOM || strlen(path) > 200)
        die(2, "wrong arguments");
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    readers = calloc(n_readers, sizeof *readers);
    epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = STDIN_MARK};
    if (readers == NULL || epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event) < 0)
        die(1, "epoll");
    open_all();
    puts("ready");
    fflush(stdout);
    begin_window();
    run();
    return 0;
}
