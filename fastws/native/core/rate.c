#include "core/rate.h"

#define UNITS 256ULL /* of a nanosecond */
#define SECOND (1000000000ULL * UNITS)

/* What is missing in the bucket, as the time that it takes to come. */
static uint64_t missing(fws_rate state, uint64_t now)
{
    uint64_t ahead = state - now * UNITS; /* wraps where the bucket has been full for a while */
    return ahead <= SECOND ? ahead : 0;
}

static uint64_t cost(uint64_t rate, uint64_t n)
{
    return (uint64_t)((unsigned __int128)n * SECOND / rate);
}

fws_rate fws_rate_full(uint64_t now)
{
    return now * UNITS;
}

uint64_t fws_rate_room(fws_rate state, uint64_t rate, uint64_t now)
{
    uint64_t left = SECOND - missing(state, now);
    uint64_t room = (uint64_t)((unsigned __int128)left * rate / SECOND);
    return room == 0 && left >= cost(rate, 1) ? 1 : room;
}

fws_rate fws_rate_take(fws_rate state, uint64_t rate, uint64_t n, uint64_t now)
{
    return now * UNITS + missing(state, now) + cost(rate, n);
}

uint64_t fws_rate_wait(fws_rate state, uint64_t rate, uint64_t now)
{
    uint64_t wanted = missing(state, now) + cost(rate, 1);
    return wanted <= SECOND ? 0 : (wanted - SECOND + UNITS - 1) / UNITS;
}
