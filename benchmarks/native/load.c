/* The load client of benchmarks/compare: compares every byte that comes over WebSockets.
 *
 *     load --mode fan|latency|echo --frame F --ring N [--sent-frame G] [--window W] [--burst B]
 *          [--in-flight K] [--probe FD] --pid PID --warmup S --seconds S FD... <STREAM
 *
 * The sockets are open WebSockets, non-blocking. STREAM is what each of them must get, N frames of F
 * bytes again and again, and behind it, with --mode echo or --probe, what a client sends: N frames
 * of G bytes.
 *
 * fan: `go W` over the first socket lets the server publish W messages, and half of that follows
 * whenever all sockets have got half of it. latency: `go B` when all have got the last B; the time
 * from then until the last socket has got them is a sample. echo: K frames of each socket are on
 * their way. Otherwise, where small pieces come and many more are to come, it naps for 0.2 ms, so that
 * one call receives several frames of a socket and its own core is not the limit. --probe: one more socket, on which one frame is echoed at a time, 1 ms apart.
 *
 * Prints one line of JSON. Status 1: the stream was wrong, or stopped; 2: wrong arguments.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "program.h"

#define BUFFER (256U << 10)
#define MAX_BYTES (4U << 20) /* of the stream */
#define MAX_EVENTS 64
#define MAX_SAMPLES (1U << 20)
#define PATIENCE_NS 10000000000ULL /* without a byte */
#define PROBE_NS 1000000ULL        /* between two frames of the probe */
#define NAP_NS 200000L
#define SMALL 4096U /* bytes of what one call receives */
#define MANY 128U   /* sockets that have not got what was published */

enum mode { FAN, LATENCY, ECHO };

typedef struct options {
    enum mode mode;
    uint64_t frame, ring, sent_frame, window, burst, in_flight;
    int probe;
    long pid;
    double warmup, seconds;
} options;

typedef struct peer {
    int fd;
    uint64_t got;   /* bytes */
    uint64_t asked; /* frames that were sent */
} peer;

typedef struct samples {
    uint64_t n;
    uint32_t us10[MAX_SAMPLES]; /* tenths of a microsecond */
} samples;

typedef struct load {
    options o;
    uint8_t *expected, *sent, *room;
    peer *peers; /* the probe stands behind the others */
    uint32_t n_peers;
    int epoll;
    uint64_t threshold; /* bytes that each socket is to get next */
    uint32_t behind;    /* sockets that have not */
    uint64_t total;     /* bytes, without the probe's */
    uint64_t asked_at, probed_at;
    samples last, probes;
} load;

/* The processor time of a process, all its threads, in ns. */
static uint64_t processor_ns(long pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/task", pid);
    DIR *tasks = opendir(path);
    uint64_t sum = 0;
    if (tasks == NULL)
        die(1, "the server has gone");
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        char file[512];
        snprintf(file, sizeof file, "%s/%s/schedstat", path, task->d_name);
        FILE *stat = task->d_name[0] == '.' ? NULL : fopen(file, "r");
        uint64_t ran;
        if (stat != NULL && fscanf(stat, "%" SCNu64, &ran) == 1)
            sum += ran;
        if (stat != NULL)
            fclose(stat);
    }
    closedir(tasks);
    return sum;
}

/* Segments with data that the sockets have got: a send that does not wait is one of them. */
static uint64_t segments(const load *l)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < l->n_peers; i++) {
        struct tcp_info info = {0};
        socklen_t size = sizeof info;
        if (getsockopt(l->peers[i].fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0)
            sum += info.tcpi_data_segs_in;
    }
    return sum;
}

static void note(samples *s, uint64_t ns)
{
    if (s->n < MAX_SAMPLES)
        s->us10[s->n++] = (uint32_t)(ns / 100 < UINT32_MAX ? ns / 100 : UINT32_MAX);
}

static void send_whole(int fd, const void *bytes, size_t n)
{
    if (send(fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)n)
        die(1, "the server does not take what the load client sends");
}

/* Sends the next `n` frames of the ring. */
static void ask(load *l, peer *p, uint64_t n)
{
    while (n > 0) {
        uint64_t at = p->asked % l->o.ring, run = n < l->o.ring - at ? n : l->o.ring - at;
        send_whole(p->fd, l->sent + at * l->o.sent_frame, run * l->o.sent_frame);
        p->asked += run;
        n -= run;
    }
}

/* A masked text `go N` (RFC 6455 5.2) on the first socket; all are to get `wanted` frames. */
static void permit(load *l, uint64_t n, uint64_t wanted)
{
    static const uint8_t key[4] = {0x37, 0xfa, 0x21, 0x3d};
    char text[32];
    uint8_t frame[40] = {0x81};
    int size = snprintf(text, sizeof text, "go %" PRIu64, n);
    frame[1] = (uint8_t)(0x80 | size);
    memcpy(frame + 2, key, sizeof key);
    for (int i = 0; i < size; i++)
        frame[6 + i] = (uint8_t)text[i] ^ key[i % 4];
    l->asked_at = clock_ns(CLOCK_MONOTONIC);
    send_whole(l->peers[0].fd, frame, 6 + (size_t)size);
    l->threshold += wanted * l->o.frame;
    l->behind = 0;
    for (uint32_t i = 0; i < l->n_peers; i++)
        l->behind += l->peers[i].got < l->threshold;
}

static void check(const load *l, const peer *p, const uint8_t *bytes, uint64_t n)
{
    uint64_t period = l->o.frame * l->o.ring, at = p->got % period;
    for (uint64_t done = 0, run; done < n; done += run, at = 0) {
        run = n - done < period - at ? n - done : period - at;
        if (memcmp(bytes + done, l->expected + at, run) != 0) {
            fprintf(stderr, "frame %" PRIu64 " of a client, or one soon after it, is wrong\n",
                    p->got / l->o.frame);
            exit(1);
        }
    }
}

static uint64_t receive(load *l, peer *p)
{
    ssize_t n = recv(p->fd, l->room, BUFFER, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0)
        die(1, "the server closed a connection");
    check(l, p, l->room, (uint64_t)n);
    p->got += (uint64_t)n;
    return (uint64_t)n;
}

static void take(load *l, peer *p)
{
    uint64_t before = p->got;
    l->total += receive(l, p);
    if (l->o.mode == ECHO) {
        uint64_t more = p->got / l->o.frame + l->o.in_flight - p->asked;
        if (more > 0)
            ask(l, p, more);
    } else if (before < l->threshold && p->got >= l->threshold)
        l->behind--;
}

static void take_probe(load *l, peer *p)
{
    receive(l, p);
    if (p->got == p->asked * l->o.frame)
        note(&l->probes, clock_ns(CLOCK_MONOTONIC) - l->probed_at);
}

static void probe(load *l, uint64_t now)
{
    peer *p = &l->peers[l->n_peers];
    if (p->got < p->asked * l->o.frame || now - l->probed_at < PROBE_NS)
        return;
    l->probed_at = now;
    ask(l, p, 1);
}

static void go_on(load *l)
{
    if (l->o.mode == ECHO || l->behind > 0)
        return;
    uint64_t half = l->o.window / 2 / l->o.burst * l->o.burst;
    if (l->o.mode == FAN) {
        permit(l, half, half);
        return;
    }
    note(&l->last, clock_ns(CLOCK_MONOTONIC) - l->asked_at);
    permit(l, l->o.burst, l->o.burst);
}

/* Lets more come: not where pieces are large, and not when the last socket of a sample is awaited. */
static void nap(const load *l, uint64_t bytes, int pieces)
{
    bool soon = l->o.mode == LATENCY && l->behind < MANY;
    if (l->o.mode == ECHO || soon || bytes >= SMALL * (uint64_t)pieces)
        return;
    struct timespec time = {.tv_nsec = NAP_NS};
    nanosleep(&time, NULL);
}

static void run(load *l, double seconds)
{
    struct epoll_event events[MAX_EVENTS];
    uint64_t now = clock_ns(CLOCK_MONOTONIC), heard = now, until = now + (uint64_t)(seconds * 1e9);
    for (; now < until; now = clock_ns(CLOCK_MONOTONIC)) {
        if (l->o.probe >= 0)
            probe(l, now);
        int n = epoll_wait(l->epoll, events, MAX_EVENTS, l->o.probe >= 0 ? 1 : 100);
        uint64_t total = l->total;
        for (int i = 0; i < n; i++) {
            if (events[i].data.u32 == l->n_peers)
                take_probe(l, &l->peers[l->n_peers]);
            else
                take(l, &l->peers[events[i].data.u32]);
        }
        go_on(l);
        if (n < MAX_EVENTS)
            nap(l, l->total - total, n);
        if (n > 0)
            heard = now;
        else if (now - heard > PATIENCE_NS)
            die(1, "nothing came for 10 s");
    }
}

static void begin(load *l)
{
    if (l->o.mode == ECHO)
        for (uint32_t i = 0; i < l->n_peers; i++)
            ask(l, &l->peers[i], l->o.in_flight);
    else if (l->o.mode == FAN)
        permit(l, l->o.window, l->o.window - l->o.window / 2 / l->o.burst * l->o.burst);
    else
        permit(l, l->o.burst, l->o.burst);
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void print_samples(const char *name, samples *s)
{
    if (s->n == 0)
        return;
    qsort(s->us10, s->n, sizeof *s->us10, by_size);
    printf(",\"%s\":{\"n\":%" PRIu64 ",\"median_us\":%.1f,\"p99_us\":%.1f,\"most_us\":%.1f}", name,
           s->n, s->us10[s->n / 2] / 10.0, s->us10[s->n * 99 / 100] / 10.0,
           s->us10[s->n - 1] / 10.0);
}

static void measure(load *l)
{
    begin(l);
    run(l, l->o.warmup);
    l->last.n = l->probes.n = 0;
    uint64_t total = l->total, parts = segments(l), server = processor_ns(l->o.pid);
    uint64_t own = clock_ns(CLOCK_PROCESS_CPUTIME_ID), began = clock_ns(CLOCK_MONOTONIC);
    run(l, l->o.seconds);
    double took = (double)(clock_ns(CLOCK_MONOTONIC) - began) / 1e9;
    own = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own;
    server = processor_ns(l->o.pid) - server;
    double frames = (double)(l->total - total) / (double)l->o.frame;
    if (frames < 1)
        die(1, "not one frame came");
    parts = segments(l) - parts;
    printf("{\"frames_per_s\":%.1f,\"server_ns\":%.1f,\"client_busy\":%.4f", frames / took,
           (double)server / frames, (double)own / 1e9 / took);
    printf(",\"frames_per_segment\":%.4f", frames / (double)(parts > 0 ? parts : 1));
    print_samples("latency", &l->last);
    print_samples("probe", &l->probes);
    printf("}\n");
}

/* One option; false: its name is unknown. */
static bool option(options *o, const char *name, const char *value)
{
    struct {
        const char *name;
        uint64_t *at;
    } numbers[] = {
        {"--frame", &o->frame},   {"--ring", &o->ring},   {"--sent-frame", &o->sent_frame},
        {"--window", &o->window}, {"--burst", &o->burst}, {"--in-flight", &o->in_flight},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strcmp(name, numbers[i].name) == 0) {
            *numbers[i].at = strtoull(value, NULL, 10);
            return true;
        }
    if (strcmp(name, "--mode") == 0)
        o->mode = value[0] == 'e' ? ECHO : value[0] == 'l' ? LATENCY : FAN;
    else if (strcmp(name, "--probe") == 0)
        o->probe = atoi(value);
    else if (strcmp(name, "--pid") == 0)
        o->pid = atol(value);
    else if (strcmp(name, "--warmup") == 0)
        o->warmup = strtod(value, NULL);
    else if (strcmp(name, "--seconds") == 0)
        o->seconds = strtod(value, NULL);
    else
        return false;
    return true;
}

static void read_stream(load *l)
{
    uint64_t n = l->o.frame * l->o.ring, sent = l->o.sent_frame * l->o.ring;
    if (n == 0 || n + sent > MAX_BYTES)
        die(2, "the ring is too large, or empty");
    l->expected = malloc(n + sent);
    l->room = malloc(BUFFER);
    if (l->expected == NULL || l->room == NULL)
        die(2, "memory");
    if (fread(l->expected, 1, n + sent, stdin) != n + sent)
        die(2, "stdin must hold the frames of a ring");
    l->sent = l->expected + n;
}

static void open_peers(load *l, char **fds, int n)
{
    l->peers = calloc((size_t)n + 1, sizeof *l->peers);
    l->epoll = epoll_create1(0);
    if (l->peers == NULL || l->epoll < 0)
        die(2, "epoll");
    l->n_peers = (uint32_t)n;
    for (uint32_t i = 0; i <= l->n_peers; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        l->peers[i].fd = i < l->n_peers ? atoi(fds[i]) : l->o.probe;
        if (l->peers[i].fd >= 0 && epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->peers[i].fd, &event) < 0)
            die(2, "a socket");
    }
}

int main(int argc, char **argv)
{
    static load l = {.o = {.burst = 1, .window = 2, .in_flight = 1, .probe = -1, .pid = -1}};
    int i = 1;
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2)
        if (!option(&l.o, argv[i], argv[i + 1]))
            die(2, "wrong option");
    bool sends = l.o.mode == ECHO || l.o.probe >= 0;
    if (i >= argc || l.o.pid < 0 || !(l.o.seconds > 0) || l.o.burst == 0
        || l.o.window < 2 * l.o.burst || l.o.in_flight == 0 || (sends && l.o.sent_frame == 0))
        die(2, "wrong arguments");
    read_stream(&l);
    open_peers(&l, argv + i, argc - i);
    measure(&l);
    free(l.peers);
    free(l.expected);
    free(l.room);
    return 0;
}
