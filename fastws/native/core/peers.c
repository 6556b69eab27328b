#include "core/peers.h"

#include <stdlib.h>
#include <string.h>

static uint32_t home(const fws_peers *peers, const uint8_t address[16])
{
    uint64_t low, high;
    memcpy(&low, address, 8);
    memcpy(&high, address + 8, 8);
    uint64_t hash = (low ^ peers->seed) * 0x9E3779B97F4A7C15ULL;
    hash ^= hash >> 32;
    hash = (hash ^ high ^ peers->seed) * 0xBF58476D1CE4E5B9ULL;
    return (uint32_t)(hash >> 32) & (peers->capacity - 1);
}

/* The entry of an address, or the free one where it belongs. */
static fws_peer *find(const fws_peers *peers, const uint8_t address[16])
{
    uint32_t at = home(peers, address);
    while (peers->table[at].used && memcmp(peers->table[at].address, address, 16) != 0)
        at = (at + 1) & (peers->capacity - 1);
    return &peers->table[at];
}

/* Whether its bucket is not full yet; every rate fills one in a second. */
static bool remembered(const fws_peer *peer, uint64_t now)
{
    return fws_rate_room(peer->requests, FWS_RATE_MOST, now) < FWS_RATE_MOST;
}

/* How many entries a new table takes over, those without connections up to FWS_PEERS_IDLE. */
static uint32_t kept_of(const fws_peers *peers, uint64_t now)
{
    uint32_t idle = 0, kept = 0;
    for (uint32_t i = 0; i < peers->capacity; i++) {
        const fws_peer *peer = &peers->table[i];
        kept += peer->count > 0;
        idle += peer->used && peer->count == 0 && remembered(peer, now);
    }
    return kept + (idle < FWS_PEERS_IDLE ? idle : FWS_PEERS_IDLE);
}

/* A table with room for half as many again as are kept. */
static bool rebuild(fws_peers *peers, uint64_t now)
{
    uint32_t kept = kept_of(peers, now), idle = FWS_PEERS_IDLE;
    /* By another seed: in the order of the old table they would form long runs in the new one. */
    fws_peers fresh = {.capacity = 64, .seed = peers->seed * 0x9E3779B97F4A7C15ULL + 1};
    while (fresh.capacity / 2 < kept)
        fresh.capacity *= 2;
    fresh.table = calloc(fresh.capacity, sizeof *fresh.table);
    if (fresh.table == NULL)
        return false;
    for (uint32_t i = 0; i < peers->capacity; i++) {
        const fws_peer *peer = &peers->table[i];
        bool alone = peer->used && peer->count == 0 && idle > 0 && remembered(peer, now);
        if (peer->count == 0 && !alone)
            continue;
        idle -= alone;
        *find(&fresh, peer->address) = *peer;
        fresh.used++;
    }
    free(peers->table);
    *peers = fresh;
    return true;
}

/* The entry of an address, made if it is not there; NULL: memory is out. */
static fws_peer *entry(fws_peers *peers, const uint8_t address[16], uint64_t now)
{
    fws_peer *peer = peers->capacity == 0 ? NULL : find(peers, address);
    if (peer != NULL && peer->used)
        return peer;
    if (peers->used >= peers->capacity / 4 * 3) {
        if (!rebuild(peers, now))
            return NULL;
        peer = find(peers, address);
    }
    memcpy(peer->address, address, 16);
    peer->requests = fws_rate_full(now);
    peer->count = 0;
    peer->used = true;
    peers->used++;
    return peer;
}

uint32_t fws_peers_add(fws_peers *peers, const uint8_t address[16], uint64_t now)
{
    fws_peer *peer = entry(peers, address, now);
    return peer == NULL ? 0 : ++peer->count;
}

/* A freed entry is filled from behind, so that no run of probes is cut (Knuth 6.4, R). */
static void close_gap(fws_peers *peers, uint32_t gap)
{
    uint32_t mask = peers->capacity - 1;
    peers->table[gap] = (fws_peer){0};
    for (uint32_t at = (gap + 1) & mask; peers->table[at].used; at = (at + 1) & mask) {
        uint32_t wants = home(peers, peers->table[at].address);
        if (((at - wants) & mask) < ((at - gap) & mask))
            continue;
        peers->table[gap] = peers->table[at];
        peers->table[at] = (fws_peer){0};
        gap = at;
    }
}

void fws_peers_remove(fws_peers *peers, const uint8_t address[16], uint64_t now)
{
    fws_peer *peer = find(peers, address);
    if (--peer->count > 0 || remembered(peer, now))
        return;
    peers->used--;
    close_gap(peers, (uint32_t)(peer - peers->table));
}

uint64_t fws_peers_request(fws_peers *peers, const uint8_t address[16], uint64_t rate, uint64_t now)
{
    fws_peer *peer = entry(peers, address, now);
    if (peer == NULL)
        return 0;
    uint64_t wait = fws_rate_wait(peer->requests, rate, now);
    if (wait == 0)
        peer->requests = fws_rate_take(peer->requests, rate, 1, now);
    return wait;
}

void fws_peers_clear(fws_peers *peers)
{
    free(peers->table);
    peers->table = NULL;
    peers->capacity = peers->used = 0;
}
