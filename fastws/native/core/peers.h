/* What each address does: its connections now, its requests of late. Layer 3: no I/O.
 *
 * An address is 16 bytes: an IPv6 address cut to its first 64 bits (a household has that many), or
 * an IPv4 one as mapped into IPv6. Open addressing with linear probing. An entry is there while its
 * address has connections, and until its bucket of requests is full again, a second at most. What
 * is not needed any more goes when the table is full; then it is made again in the size of what is
 * left. Of entries without connections FWS_PEERS_IDLE are kept at most, so that a crowd of addresses
 * that come once costs 4 MiB at most; an address that is forgotten has a full bucket again.
 */
#ifndef FWS_PEERS_H
#define FWS_PEERS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/rate.h"

#define FWS_PEERS_IDLE 65536u

typedef struct fws_peer {
    uint8_t address[16];
    fws_rate requests;
    uint32_t count; /* connections */
    bool used;      /* the entry is there */
} fws_peer;

typedef struct fws_peers {
    fws_peer *table;
    uint32_t capacity, used; /* capacity a power of two, or 0 */
    uint64_t seed;           /* unknown to peers, so that nobody can choose collisions */
} fws_peers;

/* Counts one more connection of the address: the new count, or 0 when memory is out. */
uint32_t fws_peers_add(fws_peers *peers, const uint8_t address[16], uint64_t now);

/* Counts one less; the address must be there. */
void fws_peers_remove(fws_peers *peers, const uint8_t address[16], uint64_t now);

/* Takes one request of the address, `rate` a second, at now, ns: 0, or how long it has to wait
 * for that, ns. When memory is out it is taken. */
uint64_t fws_peers_request(fws_peers *peers, const uint8_t address[16], uint64_t rate,
                           uint64_t now);

void fws_peers_clear(fws_peers *peers);

#endif
