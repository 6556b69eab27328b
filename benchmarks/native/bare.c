/* What the kernel allows: sends finished frames to sockets that are open already, in a tight loop.
 *
 *     bare --mode single|run [--frames K] [--lowat BYTES] [--credit] --seconds S FD... <FRAMES
 *
 * FRAMES are WebSocket frames of a server back to back, 1 MiB at most, which every socket gets
 * again and again from the first on, each from its own place. single: one frame a send, to all
 * sockets in turn; run: K frames a send. A full socket is passed over until it has room: what its
 * buffers hold (megabytes), or with --lowat up to that many bytes unsent (TCP_NOTSENT_LOWAT).
 * --credit: a text `go N` of any peer permits N further frames to each; without it there is no
 * limit. Ends after S seconds, or when every peer has closed, with one line of JSON. Status 2:
 * wrong arguments. Nothing here is fastws.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_BYTES (1U << 20) /* of frames */
#define MAX_EVENTS 256
#define LOOK_EVERY 16       /* rounds between two looks at the clock */
#define LOOK_NS 10000000ULL /* between two looks for closing peers while all sockets have room */

typedef struct options {
    uint32_t frames; /* of a send */
    int lowat;       /* bytes; 0: the kernel's own */
    bool credit;
    double seconds;
} options;

typedef struct peer {
    int fd;
    bool full, open;
    uint32_t at;    /* byte of the frames to send next */
    uint32_t frame; /* the frame it lies in */
    uint64_t laps;
} peer;

typedef struct run {
    uint8_t *bytes;  /* the frames, and the first `ahead` of them once more */
    uint32_t *start; /* of each frame, of those ahead and of what would follow */
    uint32_t n, ahead, n_bytes;
    peer *peers;
    uint32_t n_peers, n_open, n_full;
    int epoll;
    uint64_t permitted; /* frames to each peer */
    uint64_t sends, sent_bytes;
} run;

static void die(const char *why)
{
    fprintf(stderr, "bare: %s%s%s\n", why, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(2);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* The bytes of the frame at `at`, or 0 when it does not end within n (RFC 6455 5.2). */
static uint32_t frame_bytes(const uint8_t *bytes, size_t at, size_t n)
{
    if (at + 2 > n)
        return 0;
    uint64_t size = bytes[at + 1];
    uint32_t extended = size == 126 ? 2 : size == 127 ? 8 : 0;
    if (at + 2 + extended > n)
        return 0;
    if (extended > 0)
        size = 0;
    for (uint32_t i = 0; i < extended; i++)
        size = size << 8 | bytes[at + 2 + i];
    uint64_t room = n - at - 2 - extended;
    return size <= room ? (uint32_t)size + 2 + extended : 0;
}

/* Reads the frames from stdin and repeats their beginning behind their end, so that a run is one
 * piece of memory wherever it begins. */
static void read_frames(run *r, uint32_t ahead)
{
    uint8_t *bytes = malloc(2 * MAX_BYTES);
    uint32_t *start = malloc((MAX_BYTES + 1) * sizeof *start);
    if (bytes == NULL || start == NULL)
        die("memory");
    size_t n = fread(bytes, 1, MAX_BYTES, stdin);
    uint32_t frames = 0, at = 0;
    for (uint32_t size; (size = frame_bytes(bytes, at, n)) > 0; at += size)
        start[frames++] = at;
    if (frames == 0 || at != n || ahead > frames)
        die("stdin must hold whole frames, 1 MiB at most, K of them at least");
    for (uint32_t i = 0; i <= ahead; i++)
        start[frames + i] = at + (i < frames ? start[i] : at);
    memcpy(bytes + at, bytes, start[frames + ahead] - at);
    *r = (run){.bytes = bytes, .start = start, .n = frames, .ahead = ahead, .n_bytes = at};
}

static void open_peers(run *r, char **fds, int n, int lowat)
{
    r->peers = calloc((size_t)n, sizeof *r->peers);
    r->epoll = epoll_create1(0);
    if (r->peers == NULL || r->epoll < 0)
        die("epoll");
    r->n_peers = r->n_open = (uint32_t)n;
    for (uint32_t i = 0; i < r->n_peers; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                    .data.u32 = i};
        r->peers[i] = (peer){.fd = atoi(fds[i]), .open = true};
        if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, r->peers[i].fd, &event) < 0)
            die("a socket");
        if (lowat > 0
            && setsockopt(r->peers[i].fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat) < 0)
            die("TCP_NOTSENT_LOWAT");
    }
}

static void set_full(run *r, peer *p, bool full)
{
    r->n_full += (uint32_t)full - (uint32_t)p->full;
    p->full = full;
}

static void drop(run *r, peer *p)
{
    if (!p->open)
        return;
    set_full(r, p, false);
    p->open = false;
    r->n_open--;
    shutdown(p->fd, SHUT_WR); /* the peer reads to the end, then closes */
}

/* After a short count: it goes on in the frame that was cut, and a run is counted from there,
 * so that sends stay as large as they were. */
static void cut(run *r, peer *p)
{
    set_full(r, p, true);
    while (r->start[p->frame + 1] <= p->at)
        p->frame++;
}

/* How many of n frames a peer may have now. */
static inline uint32_t allowed(const run *r, const peer *p, uint32_t n)
{
    uint64_t left = r->permitted - (p->laps * r->n + p->frame);
    return left < n ? (uint32_t)left : n;
}

static inline void send_to(run *r, peer *p, uint32_t n)
{
    size_t size = r->start[p->frame + n] - p->at;
    ssize_t sent = send(p->fd, r->bytes + p->at, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    r->sends++;
    if (sent < 0) {
        if (errno == EAGAIN)
            set_full(r, p, true);
        else if (errno != EINTR)
            drop(r, p);
        return;
    }
    r->sent_bytes += (uint64_t)sent;
    p->at += (uint32_t)sent;
    if ((size_t)sent == size)
        p->frame += n;
    else
        cut(r, p);
    if (p->frame >= r->n) {
        p->frame -= r->n;
        p->at -= r->n_bytes;
        p->laps++;
    }
}

/* The number of a masked text `go N`. */
static uint64_t permission(const uint8_t *key, size_t n)
{
    uint64_t number = 0;
    for (size_t i = 3; i < n; i++)
        number = number * 10 + (uint64_t)((key[4 + i] ^ key[i % 4]) - '0');
    return number;
}

/* Whether a Close is among the frames of a client, which are masked, below 64 KiB, and come whole;
 * what the texts permit is added up. */
static bool has_close(run *r, const uint8_t *data, size_t n)
{
    for (size_t at = 0; at + 4 <= n;) {
        if ((data[at] & 0x0fU) == 8)
            return true;
        size_t size = data[at + 1] & 0x7fU; /* RFC 6455 5.2: 126 says that 16 bits follow */
        if (r->permitted < UINT64_MAX && size < 24 && at + 6 + size <= n)
            r->permitted += permission(data + at + 2, size);
        at += size < 126 ? 6 + size : 8 + ((size_t)data[at + 2] << 8 | data[at + 3]);
    }
    return false;
}

/* What a peer says else is thrown away, but its Close is answered (RFC 6455 5.5.1) where no frame is
 * half sent. */
static void hear(run *r, peer *p)
{
    static const uint8_t close_frame[] = {0x88, 2, 0x03, 0xe8};
    uint8_t room[65536];
    ssize_t got;
    while (p->open && (got = recv(p->fd, room, sizeof room, MSG_DONTWAIT)) >= 0) {
        if (got > 0 && !has_close(r, room, (size_t)got))
            continue;
        if (got > 0 && p->at == r->start[p->frame])
            (void)!send(p->fd, close_frame, sizeof close_frame, MSG_NOSIGNAL | MSG_DONTWAIT);
        drop(r, p);
    }
}

static void look_at_sockets(run *r, int timeout_ms)
{
    struct epoll_event events[MAX_EVENTS];
    int n = epoll_wait(r->epoll, events, MAX_EVENTS, timeout_ms);
    for (int i = 0; i < n; i++) {
        peer *p = &r->peers[events[i].data.u32];
        if (p->open && (events[i].events & EPOLLOUT))
            set_full(r, p, false);
        if (events[i].events & (EPOLLIN | EPOLLRDHUP))
            hear(r, p);
        if (events[i].events & (EPOLLHUP | EPOLLERR))
            drop(r, p);
    }
}

static void send_all(run *r, uint32_t n, uint64_t deadline)
{
    uint64_t now = now_ns(), look_at = now;
    for (uint32_t round = 0; r->n_open > 0 && now < deadline; round++) {
        bool stuck = true;
        for (uint32_t i = 0; i < r->n_peers; i++) {
            peer *p = &r->peers[i];
            uint32_t count = p->open && !p->full ? allowed(r, p, n) : 0;
            if (count > 0)
                send_to(r, p, count);
            stuck = stuck && (count == 0 || p->full);
        }
        if (stuck || r->n_full > 0 || now >= look_at) {
            look_at_sockets(r, stuck ? 10 : 0);
            look_at = now + LOOK_NS;
        }
        if (stuck || r->n_peers > LOOK_EVERY || round % LOOK_EVERY == 0)
            now = now_ns();
    }
}

/* The options; *first_fd is where the descriptors begin. */
static options parse(int argc, char **argv, int *first_fd)
{
    options o = {.frames = 1};
    bool runs = false;
    int i = 1;
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--credit") == 0) {
            o.credit = true;
            i--; /* it has no value */
            continue;
        }
        if (strcmp(argv[i], "--mode") == 0
            && (strcmp(value, "run") == 0 || strcmp(value, "single") == 0))
            runs = value[0] == 'r';
        else if (strcmp(argv[i], "--frames") == 0)
            o.frames = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--lowat") == 0)
            o.lowat = atoi(value);
        else if (strcmp(argv[i], "--seconds") == 0)
            o.seconds = strtod(value, NULL);
        else
            die("wrong option");
    }
    if (i >= argc || o.frames == 0 || o.lowat < 0 || !(o.seconds > 0 && o.seconds <= 86400))
        die("--mode single|run [--frames K] [--lowat N] [--credit] --seconds S FD... <FRAMES");
    if (!runs)
        o.frames = 1;
    *first_fd = i;
    return o;
}

int main(int argc, char **argv)
{
    int first_fd;
    options o = parse(argc, argv, &first_fd);
    run r;
    read_frames(&r, o.frames);
    r.permitted = o.credit ? 0 : UINT64_MAX;
    open_peers(&r, argv + first_fd, argc - first_fd, o.lowat);
    uint64_t began = now_ns(), whole = 0;
    send_all(&r, o.frames, began + (uint64_t)(o.seconds * 1e9));
    double took = (double)(now_ns() - began) / 1e9;
    for (uint32_t i = 0; i < r.n_peers; i++)
        whole += r.peers[i].laps * r.n + r.peers[i].frame;
    printf("{\"frames\":%llu,\"bytes\":%llu,\"sends\":%llu,\"seconds\":%.6f,",
           (unsigned long long)whole, (unsigned long long)r.sent_bytes, (unsigned long long)r.sends,
           took);
    printf("\"frames_per_s\":%.0f}\n", (double)whole / took);
    free(r.bytes);
    free(r.start);
    free(r.peers);
    return 0;
}
