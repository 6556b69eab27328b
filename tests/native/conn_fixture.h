/* Connections without an engine: topics, subscriptions and the account, for tests. */
#ifndef FWS_TEST_PLAN_H
#define FWS_TEST_PLAN_H

#include "check.h"
#include "core/topic.h"

/* What must hold of a topic at any time (topic.h); and of each of its subscriptions. */
static inline void check_account(const fws_topic *topic)
{
    uint32_t unflushed = 0;
    uint64_t halves = 0, bytes;
    CHECK(topic->active <= topic->n && topic->n <= topic->capacity);
    for (uint32_t i = 0; i < topic->n; i++) {
        const fws_sub *sub = topic->members[i];
        CHECK_EQ(sub->member, i);
        CHECK(sub->topic == topic && fws_topic_find(topic, sub->conn) == sub);
        CHECK_EQ(sub->conn->blocked, i >= topic->active);
        unflushed += i < topic->active && sub->flushed_epoch < topic->epoch;
        halves += sub->partial;
        CHECK(!sub->partial || sub->conn->partial.sub == sub);
        CHECK_EQ(sub->start + sub->delivered + sub->dropped + sub->conflated
                     + fws_sub_pending(sub, &bytes),
                 topic->log.next_seq);
        CHECK(sub->acknowledged <= sub->delivered);
    }
    CHECK_EQ(topic->unflushed, unflushed);
    CHECK(topic->partial_frames >= halves); /* those of subscriptions that are gone besides */
    CHECK_EQ(fws_topic_pending(topic),
             topic->published_to - topic->delivered - topic->dropped - topic->conflated);
}

static inline void append_frame(fws_topic *topic, const void *frame, size_t n, uint64_t eseq)
{
    uint8_t *room;
    CHECK_EQ(fws_topic_reserve(topic, n, eseq, &room), FWS_OK);
    memcpy(room, frame, n);
    fws_topic_commit(topic, n, eseq);
}

/* Ends all subscriptions of a connection and frees what it holds, as death does. */
static inline void strip(fws_conn *conn)
{
    while (conn->subs != NULL)
        fws_topic_leave(conn->subs);
    fws_partial_drop(&conn->partial);
    fws_outbox_clear(&conn->outbox);
}

#endif
