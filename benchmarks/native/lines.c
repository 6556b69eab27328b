/* The two ends of benchmarks/lines.py: writes numbered lines to a file; checks them at the clients.
 *
 *     lines write FILE N SIZE RATE    appends lines of SIZE bytes, newline included; RATE lines a
 *                                     second, 0: as fast as it can
 *     lines read N SIZE PID FD...     the sockets are open WebSockets; each of them must get N text
 *                                     messages, which are those lines, whole and in order
 *
 * A line is its number in ten digits, a blank, and the same filling for all. `read` prints one line
 * of JSON: seconds from the first byte to the last of the last socket, the same of the first socket
 * that had all, the shares of a core that it and the process PID took. Status 1: a byte was wrong, or
 * none came for 10 s; 2: wrong arguments.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define DIGITS 10U
#define LEAST (DIGITS + 2)
#define MOST 65535U
#define CHUNK (64U << 10)
#define BUFFER (256U << 10)
#define MAX_EVENTS 64
#define PATIENCE_MS 10000

typedef struct peer {
    int fd;
    uint64_t lines; /* that it has got */
    size_t at;      /* bytes of the next one that it has */
    uint8_t *frame; /* the next one */
} peer;

static void die(int status, const char *why)
{
    fprintf(stderr, "%s%s%s\n", why, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(status);
}

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void *reserve(size_t n)
{
    void *found = malloc(n);
    if (found == NULL)
        die(2, "memory");
    return found;
}

/* The first line, without its newline. */
static void first_line(uint8_t *line, size_t n)
{
    memset(line, '0', DIGITS);
    line[DIGITS] = ' ';
    for (size_t i = DIGITS + 1; i < n; i++)
        line[i] = (uint8_t)('a' + i % 26);
}

static void next_line(uint8_t *line)
{
    size_t i = DIGITS;
    while (i-- > 0 && line[i] == '9')
        line[i] = '0';
    line[i]++;
}

/* Writing. */

static void write_whole(int fd, const uint8_t *bytes, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, bytes, n);
        if (done < 0)
            die(1, "write");
        bytes += done;
        n -= (size_t)done;
    }
}

static void wait_until(double due)
{
    double left = due - seconds(CLOCK_MONOTONIC);
    if (left <= 0)
        return;
    struct timespec time = {.tv_sec = (time_t)left,
                            .tv_nsec = (long)((left - (double)(time_t)left) * 1e9)};
    nanosleep(&time, NULL);
}

static int write_lines(const char *file, uint64_t n, size_t size, double rate)
{
    int fd = open(file, O_WRONLY | O_APPEND);
    if (fd < 0)
        die(1, file);
    uint8_t *line = reserve(size), *chunk = reserve(CHUNK + size);
    first_line(line, size - 1);
    line[size - 1] = '\n';
    /* A hundredth of a second of lines at most, so that a rate is a rate. */
    size_t most =
        rate > 0 && rate / 100 * (double)size < CHUNK ? (size_t)(rate / 100) + 1 : CHUNK / size + 1;
    double began = seconds(CLOCK_MONOTONIC);
    for (uint64_t i = 0; i < n;) {
        size_t used = 0;
        for (size_t j = 0; j < most && i < n && used < CHUNK; j++, i++, used += size) {
            memcpy(chunk + used, line, size);
            next_line(line);
        }
        write_whole(fd, chunk, used);
        if (rate > 0)
            wait_until(began + (double)i / rate);
    }
    printf("{\"seconds\":%.4f}\n", seconds(CLOCK_MONOTONIC) - began);
    close(fd);
    free(line);
    free(chunk);
    return 0;
}

/* Reading. */

/* The frame of a text message (RFC 6455 5.2) with the first line; its size. */
static size_t first_frame(uint8_t *frame, size_t n)
{
    size_t head = n < 126 ? 2 : 4;
    frame[0] = 0x81;
    frame[1] = (uint8_t)(n < 126 ? n : 126);
    if (head == 4) {
        frame[2] = (uint8_t)(n >> 8);
        frame[3] = (uint8_t)n;
    }
    first_line(frame + head, n);
    return head + n;
}

static void take(peer *p, const uint8_t *bytes, size_t n, size_t size)
{
    size_t head = p->frame[1] == 126 ? 4 : 2;
    for (size_t run; n > 0; bytes += run, n -= run) {
        run = size - p->at < n ? size - p->at : n;
        if (memcmp(bytes, p->frame + p->at, run) != 0) {
            errno = 0;
            fprintf(stderr, "line %" PRIu64 " of a client: ", p->lines);
            die(1, "not what was written");
        }
        p->at += run;
        if (p->at == size) {
            p->at = 0;
            p->lines++;
            next_line(p->frame + head);
        }
    }
}

static double processor_seconds(long pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/schedstat", pid);
    FILE *stat = fopen(path, "r");
    uint64_t ran = 0;
    if (stat == NULL || fscanf(stat, "%" SCNu64, &ran) != 1)
        die(1, "the server has gone");
    fclose(stat);
    return (double)ran / 1e9;
}

static int poll_of(peer *peers, uint32_t n)
{
    int epoll = epoll_create1(0);
    for (uint32_t i = 0; i < n; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, peers[i].fd, &event) < 0)
            die(2, "epoll_ctl");
    }
    return epoll;
}

static int read_lines(uint64_t lines, size_t size, long pid, peer *peers, uint32_t n)
{
    static uint8_t room[BUFFER];
    int epoll = poll_of(peers, n);
    double first = 0, began = 0, own = 0, server = 0;
    for (uint32_t left = n; left > 0;) {
        struct epoll_event events[MAX_EVENTS];
        int ready = epoll_wait(epoll, events, MAX_EVENTS, began > 0 ? PATIENCE_MS : -1);
        if (ready <= 0)
            die(1, "nothing came for 10 s");
        if (began <= 0) {
            began = seconds(CLOCK_MONOTONIC);
            own = seconds(CLOCK_PROCESS_CPUTIME_ID);
            server = processor_seconds(pid);
        }
        for (int i = 0; i < ready; i++) {
            peer *p = &peers[events[i].data.u32];
            ssize_t got = recv(p->fd, room, BUFFER, MSG_DONTWAIT);
            if (got < 0 && errno == EAGAIN)
                continue;
            if (got <= 0)
                die(1, "the server closed a connection");
            take(p, room, (size_t)got, size);
            if (p->lines < lines)
                continue;
            if (p->lines > lines || p->at > 0)
                die(1, "more came than was written");
            epoll_ctl(epoll, EPOLL_CTL_DEL, p->fd, NULL);
            first = first > 0 ? first : seconds(CLOCK_MONOTONIC) - began;
            left--;
        }
    }
    double took = seconds(CLOCK_MONOTONIC) - began;
    printf("{\"seconds\":%.4f,\"first\":%.4f,\"client_busy\":%.3f,\"server_busy\":%.3f}\n", took,
           first, (seconds(CLOCK_PROCESS_CPUTIME_ID) - own) / took,
           (processor_seconds(pid) - server) / took);
    close(epoll);
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t n = argc > 3 ? strtoull(argv[argv[1][0] == 'w' ? 3 : 2], NULL, 10) : 0;
    size_t size = argc > 4 ? strtoull(argv[argv[1][0] == 'w' ? 4 : 3], NULL, 10) : 0;
    if (n == 0 || size < LEAST || size > MOST || argc < 6)
        die(2, "wrong arguments: see the head of lines.c");
    if (strcmp(argv[1], "write") == 0)
        return write_lines(argv[2], n, size, strtod(argv[5], NULL));
    uint32_t peers = (uint32_t)argc - 5;
    peer *each = reserve(peers * sizeof *each);
    for (uint32_t i = 0; i < peers; i++) {
        each[i] = (peer){.fd = atoi(argv[5 + i]), .frame = reserve(size + 4)};
        size_t frame = first_frame(each[i].frame, size - 1);
        if (i == peers - 1)
            return read_lines(n, frame, atol(argv[4]), each, peers);
    }
    return 2;
}
