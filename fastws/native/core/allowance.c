/* What each connection may still send in its rates. By slot, in blocks that are made on demand. */
#include <stdlib.h>

#include "core/engine_internal.h"

static fws_allowance whole(const fws_engine *engine)
{
    fws_rate full = fws_rate_full(engine->now);
    return (fws_allowance){.messages = full, .bytes = full};
}

bool fws_allowances_grow(fws_engine *engine, uint32_t n)
{
    if ((engine->options.message_rate | engine->options.byte_rate) == 0)
        return true;
    fws_allowance **grown = realloc(engine->allowances, n / FWS_ALLOWANCES * sizeof *grown);
    if (grown == NULL)
        return false;
    for (uint32_t i = engine->n_slots / FWS_ALLOWANCES; i < n / FWS_ALLOWANCES; i++)
        grown[i] = NULL;
    engine->allowances = grown;
    return true;
}

void fws_allowances_clear(fws_engine *engine)
{
    for (uint32_t i = 0; engine->allowances != NULL && i < engine->n_slots / FWS_ALLOWANCES; i++)
        free(engine->allowances[i]);
    free(engine->allowances);
}

void fws_allowance_renew(fws_engine *engine, uint32_t slot)
{
    if (engine->allowances != NULL && engine->allowances[slot / FWS_ALLOWANCES] != NULL)
        engine->allowances[slot / FWS_ALLOWANCES][slot % FWS_ALLOWANCES] = whole(engine);
}

fws_allowance fws_allowance_of(const fws_engine *engine, const fws_conn *conn)
{
    uint32_t slot = (uint32_t)conn->id;
    const fws_allowance *block = engine->allowances[slot / FWS_ALLOWANCES];
    return block == NULL ? whole(engine) : block[slot % FWS_ALLOWANCES];
}

fws_allowance *fws_allowance_own(fws_engine *engine, const fws_conn *conn)
{
    uint32_t slot = (uint32_t)conn->id;
    fws_allowance **block = &engine->allowances[slot / FWS_ALLOWANCES];
    if (*block == NULL) {
        *block = malloc(FWS_ALLOWANCES * sizeof **block);
        for (uint32_t i = 0; *block != NULL && i < FWS_ALLOWANCES; i++)
            (*block)[i] = whole(engine);
    }
    return *block == NULL ? NULL : &(*block)[slot % FWS_ALLOWANCES];
}
