#include "log/outbox.h"

#include <stdlib.h>
#include <string.h>

#include "wire/frame.h"

#define PONG_ROOM (FWS_HEADER_MAX + FWS_CONTROL_MAX)
#define PONGS_WAITING (64 * PONG_ROOM) /* bytes allocated past which the last pong is replaced */
#define MESSAGE_MOST (UINT32_MAX - 64) /* bytes: with its mark and rounding it fits 32 bits */

static fws_mark *mark_of(const fws_block *block, uint32_t i)
{
    return (fws_mark *)(void *)(uintptr_t)(block->data + block->room) - 1 - i;
}

static uint32_t start_of(const fws_block *block, uint32_t i)
{
    return i == 0 ? 0 : mark_of(block, i - 1)->end;
}

/* Whether its first message is half sent. */
static bool begun(const fws_block *block)
{
    return block->sent > start_of(block, block->first);
}

static fws_block *first_of(const fws_block *queue)
{
    return queue == NULL ? NULL : queue->next;
}

/* Queues and blocks. */

static void enqueue(fws_block **queue, fws_block *block)
{
    fws_block *last = *queue;
    block->next = last == NULL ? block : last->next;
    if (last != NULL)
        last->next = block;
    *queue = block;
}

static void block_free(fws_outbox *outbox, fws_block *block)
{
    outbox->allocated -= fws_allocated(sizeof *block + block->room);
    free(block);
}

static void pop(fws_outbox *outbox, fws_block **queue)
{
    fws_block *last = *queue, *first = last->next;
    last->next = first->next;
    if (first == last)
        *queue = NULL;
    block_free(outbox, first);
}

static uint32_t room_for(size_t n)
{
    return (uint32_t)((n + sizeof(fws_mark) + 7) & ~(size_t)7);
}

/* Whether a direct message has room behind those in the block. A full one of its own size never
 * has. */
static bool fits(const fws_block *block, uint64_t eseq, size_t n)
{
    size_t free_bytes = block->room - block->used - block->n * sizeof(fws_mark);
    return block->kind == FWS_ENTRY_BYTES && free_bytes >= n + sizeof(fws_mark)
           && eseq - block->eseq <= UINT32_MAX;
}

/* Room of a new block behind the last one: four times that, so that few messages take little and
 * many take few blocks. */
static uint32_t shared_room(const fws_block *last, size_t n)
{
    size_t size = FWS_BLOCK_LEAST;
    if (n > FWS_BLOCK_ALONE)
        return room_for(n);
    if (last != NULL && last->room <= FWS_BLOCK_MOST && last->kind == FWS_ENTRY_BYTES
        && (last->n > 1 || last->used <= FWS_BLOCK_ALONE))
        size = (sizeof *last + last->room) * 4;
    size = (size > FWS_BLOCK_MOST ? FWS_BLOCK_MOST : size) - sizeof *last;
    return size < room_for(n) ? room_for(n) : (uint32_t)size;
}

static fws_block *block_new(fws_outbox *outbox, fws_block **queue, const fws_block *what)
{
    size_t size = sizeof *what + what->room;
    fws_block *block = malloc(size);
    if (block == NULL)
        return NULL;
    *block = *what;
    outbox->allocated += fws_allocated(size);
    enqueue(queue, block);
    return block;
}

/* An unsent pong at the end of the queue, emptied, when enough of them wait. */
static fws_block *replaced_pong(fws_outbox *outbox, uint8_t opcode, size_t n)
{
    fws_block *last = outbox->urgent;
    if (opcode != FWS_PONG || n > PONG_ROOM || outbox->allocated <= PONGS_WAITING || last == NULL
        || last->opcode != FWS_PONG || last->sent > 0)
        return NULL;
    outbox->bytes -= last->used;
    last->n = last->used = 0;
    return last;
}

static fws_block *block_for(fws_outbox *outbox, uint64_t eseq, enum fws_entry_kind kind,
                            uint8_t opcode, size_t n)
{
    fws_block what = {.eseq = eseq, .kind = (uint8_t)kind, .opcode = opcode};
    fws_block *last = outbox->direct, *pong;
    if (eseq == 0) {
        if ((pong = replaced_pong(outbox, opcode, n)) != NULL)
            return pong;
        what.room = room_for(opcode == FWS_PONG && n < PONG_ROOM ? PONG_ROOM : n);
        return block_new(outbox, &outbox->urgent, &what);
    }
    if (kind == FWS_ENTRY_BYTES && last != NULL && fits(last, eseq, n))
        return last;
    what.room = kind == FWS_ENTRY_BYTES ? shared_room(last, n) : room_for(n);
    return block_new(outbox, &outbox->direct, &what);
}

uint8_t *fws_outbox_push(fws_outbox *outbox, uint64_t eseq, enum fws_entry_kind kind,
                         uint8_t opcode, const uint8_t *head, size_t head_n, const uint8_t *body,
                         size_t body_n)
{
    size_t n = head_n + body_n;
    fws_block *block = n > MESSAGE_MOST ? NULL : block_for(outbox, eseq, kind, opcode, n);
    if (block == NULL)
        return NULL;
    uint8_t *at = block->data + block->used;
    if (head_n > 0)
        memcpy(at, head, head_n);
    if (body_n > 0)
        memcpy(at + head_n, body, body_n);
    block->used += (uint32_t)n;
    *mark_of(block, block->n++) =
        (fws_mark){.end = block->used, .eseq = (uint32_t)(eseq - block->eseq)};
    outbox->bytes += n;
    return at;
}

/* The order of leaving: a half-sent direct message, what overtakes, the other direct messages. */

fws_place fws_outbox_first(const fws_outbox *outbox)
{
    const fws_block *direct = first_of(outbox->direct);
    if (outbox->urgent != NULL && (direct == NULL || !begun(direct)))
        return (fws_place){.block = first_of(outbox->urgent)};
    return (fws_place){.block = direct, .at = direct == NULL ? 0 : direct->first};
}

static fws_place direct_place(const fws_outbox *outbox, const fws_block *block, uint32_t at)
{
    if (block == NULL || at < block->n)
        return (fws_place){.block = block, .at = at};
    return (fws_place){.block = block == outbox->direct ? NULL : block->next};
}

static fws_place behind_urgent(const fws_outbox *outbox, const fws_block *block)
{
    const fws_block *direct = first_of(outbox->direct);
    if (block != outbox->urgent)
        return (fws_place){.block = block->next};
    return direct_place(outbox, direct, direct == NULL ? 0 : direct->first + begun(direct));
}

uint64_t fws_place_eseq(const fws_place *place)
{
    const fws_block *block = place->block;
    if (block == NULL)
        return UINT64_MAX;
    if (block->eseq == 0 || (place->at == block->first && begun(block)))
        return 0;
    return block->eseq + mark_of(block, place->at)->eseq;
}

uint32_t fws_outbox_take(const fws_outbox *outbox, fws_place *place, uint64_t limit,
                         const uint8_t **data)
{
    const fws_block *block = place->block;
    uint32_t at = place->at;
    bool half = at == block->first && begun(block);
    uint32_t from = half ? block->sent : start_of(block, at);
    bool one = block->eseq == 0 || (half && outbox->urgent != NULL); /* the next is elsewhere */
    do
        at++;
    while (at < block->n && !one && block->eseq + mark_of(block, at)->eseq <= limit);
    *data = block->data + from;
    if (block->eseq == 0)
        *place = behind_urgent(outbox, block);
    else if (one)
        *place = (fws_place){.block = first_of(outbox->urgent)};
    else
        *place = direct_place(outbox, block, at);
    return start_of(block, at) - from;
}

bool fws_outbox_sent(fws_outbox *outbox, size_t n)
{
    const fws_block *direct = first_of(outbox->direct);
    bool urgent = outbox->urgent != NULL && (direct == NULL || !begun(direct));
    fws_block **queue = urgent ? &outbox->urgent : &outbox->direct, *block = first_of(*queue);
    block->sent += (uint32_t)n;
    outbox->bytes -= n;
    while (block->first < block->n && mark_of(block, block->first)->end <= block->sent)
        block->first++;
    if (block->first < block->n)
        return false;
    bool close = block->kind == FWS_ENTRY_CLOSE;
    pop(outbox, queue);
    return close;
}

/* The end. */

/* Whether anything of a block stays; then only that. */
static bool stays(fws_outbox *outbox, fws_block *block)
{
    if (block->kind == FWS_ENTRY_CLOSE || (block->kind == FWS_ENTRY_BYTES && block->eseq == 0))
        return true;
    uint32_t end = begun(block) ? mark_of(block, block->first)->end : block->sent;
    outbox->bytes -= block->used - end;
    block->used = end;
    block->n = block->first + begun(block);
    return block->n > block->first;
}

static void drop_unsent(fws_outbox *outbox, fws_block **queue)
{
    fws_block *block = first_of(*queue), *next;
    if (block == NULL)
        return;
    (*queue)->next = NULL;
    *queue = NULL;
    for (; block != NULL; block = next) {
        next = block->next;
        if (stays(outbox, block))
            enqueue(queue, block);
        else
            block_free(outbox, block);
    }
}

void fws_outbox_drop_unsent(fws_outbox *outbox)
{
    drop_unsent(outbox, &outbox->urgent);
    drop_unsent(outbox, &outbox->direct);
}

void fws_outbox_clear(fws_outbox *outbox)
{
    while (outbox->urgent != NULL)
        pop(outbox, &outbox->urgent);
    while (outbox->direct != NULL)
        pop(outbox, &outbox->direct);
    outbox->bytes = 0;
}
