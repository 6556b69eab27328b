/* How many connections each address holds. Layer 3: no I/O.
 *
 * An address is 16 bytes: an IPv6 address cut to its first 64 bits (a household has that many), or
 * an IPv4 one as mapped into IPv6. Open addressing with linear probing; grows with addresses
 * that are there now, never with those that were.
 */
#ifndef FWS_PEERS_H
#define FWS_PEERS_H

#include <stdint.h>

typedef struct fws_peer {
    uint8_t address[16];
    uint32_t count; /* 0: free */
} fws_peer;

typedef struct fws_peers {
    fws_peer *table;
    uint32_t capacity, used; /* capacity a power of two, or 0 */
    uint64_t seed;           /* unknown to peers, so that nobody can choose collisions */
} fws_peers;

/* Counts one more connection of the address: the new count, or 0 when memory is out. */
uint32_t fws_peers_add(fws_peers *peers, const uint8_t address[16]);

/* Counts one less; the address must be there. */
void fws_peers_remove(fws_peers *peers, const uint8_t address[16]);

void fws_peers_clear(fws_peers *peers);

#endif
