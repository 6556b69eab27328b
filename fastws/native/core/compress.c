#include "core/engine_internal.h"

int fws_conn_deflate(fws_engine *engine, fws_conn *conn, unsigned window_bits)
{
    if (window_bits < FWS_WINDOW_MIN || window_bits > FWS_WINDOW_MAX || !fws_deflate_available())
        return FWS_E_INVALID;
    if (conn->state != FWS_WAITING)
        return FWS_E_CLOSED;
    if (engine->codec == NULL)
        engine->codec = fws_deflate_new();
    if (engine->codec == NULL)
        return FWS_E_NOMEM;
    conn->window_bits = (uint8_t)window_bits;
    fws_reader_inflate(&conn->reader, engine->codec);
    return FWS_OK;
}

void fws_conn_derive(fws_engine *engine, fws_conn *conn)
{
    for (fws_sub *sub = conn->subs; sub != NULL; sub = sub->next)
        fws_variant_advance(sub->variant, &sub->topic->log, fws_sub_seq(sub), engine->codec);
    engine->counters.deflated = fws_deflate_calls(engine->codec);
}

unsigned fws_conn_compress(fws_engine *engine, const fws_conn *conn, uint8_t opcode,
                           const uint8_t **data, size_t *n)
{
    if (opcode >= FWS_CLOSE) /* RFC 7692 5: control frames are never compressed */
        return 0;
    size_t shrunk = fws_deflate_message(engine->codec, conn->window_bits, *data, *n, data);
    engine->counters.deflated = fws_deflate_calls(engine->codec);
    if (shrunk == 0)
        return 0;
    *n = shrunk;
    return FWS_RSV1;
}
