/* A link of a ring: doubly linked, the head is a link of its own. Layer 0. */
#ifndef FWS_LINK_H
#define FWS_LINK_H

#include <stdbool.h>
#include <stddef.h>

typedef struct fws_link {
    struct fws_link *next, *previous; /* next NULL: in no ring */
} fws_link;

static inline void fws_link_init(fws_link *ring)
{
    ring->next = ring->previous = ring;
}

static inline bool fws_link_empty(const fws_link *ring)
{
    return ring->next == ring;
}

static inline void fws_link_append(fws_link *ring, fws_link *link)
{
    link->previous = ring->previous;
    link->next = ring;
    ring->previous->next = link;
    ring->previous = link;
}

/* 1 when it was in a ring, else 0. */
static inline unsigned fws_link_remove(fws_link *link)
{
    if (link->next == NULL)
        return 0;
    link->previous->next = link->next;
    link->next->previous = link->previous;
    link->next = link->previous = NULL;
    return 1;
}

#define FWS_CONTAINER(pointer, type, member) \
    ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

#endif
