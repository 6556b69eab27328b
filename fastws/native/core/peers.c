#include "core/peers.h"

#include <stdbool.h>
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
    while (peers->table[at].count > 0 && memcmp(peers->table[at].address, address, 16) != 0)
        at = (at + 1) & (peers->capacity - 1);
    return &peers->table[at];
}

static bool grow(fws_peers *peers)
{
    fws_peers larger = {.capacity = peers->capacity == 0 ? 64 : peers->capacity * 2,
                        .used = peers->used,
                        .seed = peers->seed};
    larger.table = calloc(larger.capacity, sizeof *larger.table);
    if (larger.table == NULL)
        return false;
    for (uint32_t i = 0; i < peers->capacity; i++)
        if (peers->table[i].count > 0)
            *find(&larger, peers->table[i].address) = peers->table[i];
    free(peers->table);
    *peers = larger;
    return true;
}

uint32_t fws_peers_add(fws_peers *peers, const uint8_t address[16])
{
    if (peers->used >= peers->capacity / 4 * 3 && !grow(peers))
        return 0;
    fws_peer *peer = find(peers, address);
    if (peer->count == 0) {
        memcpy(peer->address, address, 16);
        peers->used++;
    }
    return ++peer->count;
}

/* A freed entry is filled from behind, so that no run of probes is cut (Knuth 6.4, R). */
static void close_gap(fws_peers *peers, uint32_t gap)
{
    uint32_t mask = peers->capacity - 1;
    for (uint32_t at = (gap + 1) & mask; peers->table[at].count > 0; at = (at + 1) & mask) {
        uint32_t wants = home(peers, peers->table[at].address);
        if (((at - wants) & mask) < ((at - gap) & mask))
            continue;
        peers->table[gap] = peers->table[at];
        peers->table[at].count = 0;
        gap = at;
    }
}

void fws_peers_remove(fws_peers *peers, const uint8_t address[16])
{
    fws_peer *peer = find(peers, address);
    if (--peer->count > 0)
        return;
    peers->used--;
    close_gap(peers, (uint32_t)(peer - peers->table));
}

void fws_peers_clear(fws_peers *peers)
{
    free(peers->table);
    peers->table = NULL;
    peers->capacity = peers->used = 0;
}
