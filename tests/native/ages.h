/* A subscriber that lags is begun nothing that is older than its policy allows: looked at as each
 * frame begins to leave. */
#ifndef FWS_TEST_AGES_H
#define FWS_TEST_AGES_H

#include "streams.h"

static uint64_t begun_late; /* frames that had been waiting for some time, and were young enough */

/* Whether nothing newer is there for it. */
static bool is_newest(const one *who, const life *it, uint64_t seq)
{
    const message *later;
    while (++seq < it->topic->log.next_seq)
        if ((later = message_of(it, seq)) == NULL || later->without != who->peer->tag)
            return false;
    return true;
}

static void check_begun(const one *who, const fws_conn *conn, const message *sent)
{
    const life *it = &lives[sent->life];
    if (sent->to != 0)
        return;
    const fws_sub *sub = fws_conn_find_sub(conn, it->topic);
    CHECK(sub != NULL && topics[it->name] == it->topic);
    if (sub->conflating || (sub->extra != NULL && sent->seq < sub->extra->replay_to))
        return; /* however old: it is the newest of its key, or asked for */
    const fws_topic_options *options = fws_sub_options(sub);
    uint64_t since = sent->at > conn->lag_since ? sent->at : conn->lag_since;
    uint64_t by = engine->topics.looked_at;
    if (!conn->lagging || options->max_lag_ns == 0 || options->on_slow == FWS_SLOW_LOSSLESS
        || sent->lane == STAGED || by <= since)
        return;
    begun_late++;
    CHECK(by - since <= options->max_lag_ns
          || (options->on_slow != FWS_SLOW_CLOSE && is_newest(who, it, sent->seq)));
}

/* The frames in what a peer got that begin at or after that place; encoded ones are left out. */
static void check_all_begun(const one *who, const fws_conn *conn, size_t from)
{
    const fake_peer *peer = who->peer;
    fws_header header;
    uint32_t number;
    int size;
    for (size_t at = 0;
         at < peer->out_n
         && (size = fws_header_decode(peer->out + at, peer->out_n - at, &header)) > 0;
         at += (size_t)size + header.length) {
        if (at < from || header.rsv != 0 || header.opcode >= FWS_CLOSE
            || who->envelope || who->batch > 0 || peer->out_n - at < (size_t)size + sizeof number)
            continue;
        memcpy(&number, peer->out + at + size, sizeof number);
        CHECK(number < n_messages);
        check_begun(who, conn, &messages[number]);
    }
}

/* sendmsg(2), with a look at what it begins. */
static ssize_t send_and_look(int fd, const struct msghdr *what, int flags)
{
    one *who = ones;
    while (who < ones + CLIENTS && (who->peer == NULL || who->peer->fd != fd))
        who++;
    if (who == ones + CLIENTS || !who->open || conn_of(who->peer) == NULL)
        return fake_sendmsg(fd, what, flags);
    check_stream(who); /* what is left there is the beginning of a frame, or nothing */
    size_t from = who->peer->out_n;
    ssize_t sent = fake_sendmsg(fd, what, flags);
    check_all_begun(who, conn_of(who->peer), from);
    return sent;
}

#endif
