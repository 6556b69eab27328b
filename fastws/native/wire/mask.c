#include "wire/mask.h"

#include <endian.h>
#include <string.h>

/* gcc turns these into the widest registers that the target is known to have; the loads and
 * stores go through memcpy, because payloads lie at any address. */
typedef uint64_t lanes __attribute__((vector_size(16)));

unsigned fws_mask(uint8_t *data, size_t n, const uint8_t key[4], unsigned phase)
{
    /* In a register: a pattern written as bytes and read as a word would stall. */
    const uint32_t half =
        htole32((uint32_t)key[phase & 3] | (uint32_t)key[(phase + 1) & 3] << 8
                | (uint32_t)key[(phase + 2) & 3] << 16 | (uint32_t)key[(phase + 3) & 3] << 24);
    const uint64_t word = (uint64_t)half << 32 | half;
    const lanes wide = {word, word};
    size_t i = 0;

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
    if (n - i >= 4) {
        uint32_t block;
        memcpy(&block, data + i, 4);
        block ^= half;
        memcpy(data + i, &block, 4);
        i += 4;
    }
    for (; i < n; i++)
        data[i] ^= key[(phase + i) & 3];
    return (unsigned)((phase + n) & 3);
}
