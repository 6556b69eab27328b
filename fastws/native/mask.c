#include "mask.h"

#include <string.h>

/* gcc turns these into the widest registers that the target is known to have; the loads and
 * stores go through memcpy, because payloads lie at any address. */
typedef uint64_t lanes __attribute__((vector_size(16)));

unsigned fws_mask(uint8_t *data, size_t n, const uint8_t key[4], unsigned phase)
{
    uint8_t pattern[8];
    uint64_t word;
    size_t i = 0;

    for (unsigned k = 0; k < 8; k++)
        pattern[k] = key[(phase + k) & 3];
    memcpy(&word, pattern, 8);
    const lanes wide = {word, word};

    for (; n - i >= 64; i += 64) {
        lanes block[4];
        memcpy(block, data + i, 64);
        for (unsigned k = 0; k < 4; k++)
            block[k] ^= wide;
        memcpy(data + i, block, 64);
    }
    for (; n - i >= 8; i += 8) {
        uint64_t block;
        memcpy(&block, data + i, 8);
        block ^= word;
        memcpy(data + i, &block, 8);
    }
    for (; i < n; i++)
        data[i] ^= pattern[i & 7];
    return (unsigned)((phase + n) & 3);
}
