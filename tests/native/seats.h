/* The subscriptions of the clients of streams.h: where they start, what is due to them next, which
 * policies they have had. */
#ifndef FWS_TEST_SEATS_H
#define FWS_TEST_SEATS_H

#include "kept.h"
#include "told.h"

static uint64_t gap_wanted;      /* of subscriptions that are made or changed now, ns */
static uint32_t keys_wanted;     /* the same, a bit each; 0: all messages */
static uint64_t filters_checked; /* accounts of subscriptions to some keys */
static uint64_t keys_checked;    /* newest messages of keys, for one that may have been slow */

static inline void check_stream(one *who); /* streams.h */

/* The sequence number that is due, those passed that it was not to get. */
static inline uint64_t due_next(const one *who, const seat *at)
{
    const message *sent;
    uint64_t seq = at->next;
    while ((sent = message_of(&lives[at->life], seq)) != NULL
           && ((seq >= at->head && sent->without == who->peer->tag) || !wants(at->keys, sent->key)))
        seq++;
    return seq;
}

/* What was skipped for a slow one was skipped for newer ones of the same keys. */
static inline void check_keys(const one *who, const seat *at)
{
    const life *it = &lives[at->life];
    if (!is_keyed(it->name) || at->drops || engine->topics.budget_dropped > 0)
        return;
    for (uint32_t key = 0; key < KEYS; key++) {
        if (!wants(at->keys, key))
            continue;
        uint64_t newest = it->newest[key];
        const message *last = newest == 0 ? NULL : message_of(it, newest - 1);
        if (newest <= at->start || newest <= it->unseen || last == NULL
            || (newest > at->head && last->without == who->peer->tag))
            continue;
        CHECK_EQ(at->newest[key], newest);
        keys_checked += at->jumps;
    }
}

/* It has everything: all of it arrived, but for what a policy skipped. */
static inline void catch_up(const one *who, seat *at, uint64_t head)
{
    uint64_t due = due_next(who, at);
    CHECK(due == head || (due < head && (at->jumps || due < lives[at->life].unseen)));
    check_keys(who, at);
    if (at->drops) /* what it has lost of them, another policy does not bring back */
        memcpy(at->newest, lives[at->life].newest, sizeof at->newest);
    at->next = head;
}

static inline void leave_seat(one *who, seat *at, const fws_conn *conn)
{
    const fws_sub *rest = conn == NULL || conn->partial.data == NULL ? NULL : conn->partial.sub;
    if (rest != NULL && rest->id == at->id) {
        CHECK(rest->left && rest->topic->epoch == lives[at->life].epoch);
        who->owed = *at; /* that one message leaves whole */
        who->owed_n = rest->partial;
    }
    at->joined = false;
    who->joined--;
}

static inline void learn_seat(one *who, const fws_conn *conn, uint8_t name)
{
    seat *at = &who->seats[name];
    const fws_sub *sub = conn == NULL || topics[name] == NULL || conn->n_subs == 0
                             ? NULL
                             : fws_conn_find_sub(conn, topics[name]);
    if (at->joined && (sub == NULL || sub->id != at->id))
        leave_seat(who, at, conn);
    if (sub == NULL)
        return;
    if (!at->joined) {
        CHECK(!who->server); /* its frames would be masked */
        *at = (seat){.life = life_of[name],
                     .id = sub->id,
                     .joined = true,
                     .start = sub->start,
                     .head = sub->start,
                     .next = sub->start,
                     .keys = keys_of(sub),
                     .counts = sub->extra == NULL
                               || (sub->extra->unpublished == 0 /* that was a snapshot */
                                   && (sub->extra->filter == NULL
                                       || sub->start >= topics[name]->log.first_seq)),
                     .waits = true,
                     .tells = sub->extra != NULL && sub->extra->losses != NULL};
        if (sub->extra != NULL && sub->extra->replay_to > 0) {
            at->head = sub->extra->replay_to;
            at->at = sub->extra->replay_eseq;
        }
        who->joined++;
    }
    lives[at->life].keyed |= sub->topic->keys != NULL;
    uint8_t policy = fws_sub_options(sub)->on_slow;
    bool caught_up = sub->seq == sub->topic->log.next_seq && !sub->partial;
    if (caught_up)
        catch_up(who, at, sub->seq);
    at->jumps =
        (at->jumps && !caught_up) || policy == FWS_SLOW_LATEST || policy == FWS_SLOW_DROP_OLDEST;
    at->jumps |= sub->conflating;
    at->drops = (at->drops && !caught_up) || policy == FWS_SLOW_DROP_OLDEST;
    at->rests = (at->rests && !caught_up) || (sub->extra != NULL && sub->extra->max_rate != NULL);
    at->waits = (at->waits || caught_up) && policy == FWS_SLOW_LOSSLESS;
    at->tells &= sub->extra != NULL && sub->extra->losses != NULL;
    CHECK(!at->waits || !fws_sub_lapped(sub));
}

/* All that it got whole is of those that it had until now. */
static inline void learn_seats(one *who)
{
    const fws_conn *conn = conn_of(who->peer);
    check_stream(who);
    if (who->joined == 0 && (conn == NULL || conn->n_subs == 0))
        return;
    for (uint8_t i = 0; i < NAMES; i++)
        learn_seat(who, conn, i);
    CHECK_EQ(who->joined, conn == NULL ? 0 : conn->n_subs);
}

static inline void learn_all_seats(void)
{
    for (int i = 0; i < CLIENTS; i++)
        if (ones[i].peer != NULL)
            learn_seats(&ones[i]);
}

/* The promise of a replay: from the frame that was asked for, if it is there. */
static inline void check_began(const one *who, uint8_t name, uint64_t epoch, uint64_t seq)
{
    const fws_log *log = &topics[name]->log;
    const fws_sub *sub = fws_conn_find_sub(conn_of(who->peer), topics[name]);
    bool there = epoch == topics[name]->epoch && seq >= log->first_seq && seq <= log->next_seq;
    CHECK_EQ(sub->began, there ? FWS_BEGAN_SINCE : FWS_BEGAN_TOO_LATE);
    if (there)
        CHECK_EQ(sub->start, seq);
    CHECK_EQ(keys_of(sub), keys_wanted);
    CHECK(sub->start + 1 >= log->next_seq || there || is_keyed(name) || keys_wanted != 0);
    CHECK(sub->seq == log->next_seq || sub->extra->replay_eseq == engine->eseq);
}

/* What it says was published to it is what was published: all that is known, message by message. */
static inline void check_published_to(const one *who, const seat *at, const fws_sub *sub)
{
    const life *it = &lives[at->life];
    uint64_t published = 0, pending = 0, next = sub->topic->log.next_seq;
    if (!at->counts || next - at->start > NUMBERS / 2)
        return;
    for (uint64_t seq = at->start; seq < next; seq++) {
        const message *sent = message_of(it, seq);
        if (sent == NULL)
            return; /* it was taken and let go between two looks */
        if (!wants(at->keys, sent->key) || (seq >= at->head && sent->without == who->peer->tag))
            continue;
        published++;
        pending += seq >= sub->seq;
    }
    fws_reader_account account = fws_sub_snapshot(sub, 0);
    CHECK_EQ(account.published, published);
    if (!sub->conflating)
        CHECK_EQ(account.pending, pending + sub->partial);
    filters_checked += at->keys != 0;
}

/* The names of these keys, as a command has them. */
static inline uint16_t write_names(uint8_t *names, uint32_t keys)
{
    uint16_t n = 0;
    for (uint32_t key = 0; key < KEYS; key++) {
        if (!(keys >> key & 1))
            continue;
        names[n++] = key == 0 ? 0 : sizeof key;
        memcpy(names + n, &key, names[n - 1]);
        n = (uint16_t)(n + names[n - 1]);
    }
    return n;
}

/* A subscription that is there tells from now on, or does not any more: what it lost before is
 * not added up. */
static inline int subscribe_with(one *who, uint8_t name, const fws_command *what)
{
    int status = fws_engine_command(engine, what);
    keep_teller(what->losses, status);
    if (status >= 0 && lane == AT_ONCE)
        who->seats[name].tells = false;
    return status;
}

/* A subscription with what is wanted now, and with its own options, when it has some. */
static inline fws_command subscription_of(const one *who, uint8_t name,
                                          const fws_topic_options *own)
{
    static uint8_t names[64];
    return (fws_command){.kind = FWS_CMD_SUBSCRIBE,
                         .conn = who->peer->tag,
                         .topic = topics[name],
                         .envelope = who->envelope,
                         .batch = who->batch,
                         .gap_ns = gap_wanted,
                         .key = names,
                         .key_n = write_names(names, keys_wanted),
                         .losses = teller(),
                         .data = (const uint8_t *)own,
                         .n = own == NULL ? 0 : sizeof *own};
}

/* Subscribes it, to what follows that frame. */
static inline void join_since(one *who, uint8_t name, const fws_topic_options *own, uint64_t epoch,
                              uint64_t seq)
{
    if (topics[name] == NULL)
        return;
    fws_command what = subscription_of(who, name, own);
    what.since = true;
    what.epoch = epoch;
    what.seq = seq;
    bool twice = who->seats[name].joined;
    int status = subscribe_with(who, name, &what);
    CHECK(status != FWS_OK || !(twice || who->server) || lane == STAGED);
    present(name)->held |=
        (own == NULL ? topics[name]->options : own)->on_slow == FWS_SLOW_LOSSLESS;
    if (lane == STAGED)
        return;
    if (status == FWS_OK)
        check_began(who, name, epoch, seq);
    learn_seats(who);
}

/* Subscribes it, or gives its subscription other options; own NULL: the topic's. */
static inline int join_with(one *who, uint8_t name, const fws_topic_options *own)
{
    if (topics[name] == NULL)
        return FWS_E_CLOSED;
    const fws_command what = subscription_of(who, name, own);
    bool others = who->seats[name].joined && who->seats[name].keys != keys_wanted;
    int status = subscribe_with(who, name, &what);
    CHECK(status != FWS_OK || !who->server || lane == STAGED);
    CHECK(status != FWS_OK || !others || lane == STAGED);
    present(name)->held |=
        (own == NULL ? topics[name]->options : own)->on_slow == FWS_SLOW_LOSSLESS;
    if (lane == AT_ONCE)
        learn_seats(who);
    return status;
}

static inline void join(one *who, uint8_t name)
{
    (void)join_with(who, name, NULL);
}

static inline void leave(one *who, uint8_t name)
{
    if (topics[name] == NULL)
        return;
    unsubscribe(who->peer, topics[name]);
    if (lane == AT_ONCE)
        learn_seats(who);
}

#endif
