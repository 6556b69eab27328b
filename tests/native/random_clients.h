/* Random steps of clients: they come, read, stop reading, talk, also in pieces, and go; commands for
 * them; faults of their sockets; pauses in reading from them. */
#ifndef FWS_TEST_RANDOM_CLIENTS_H
#define FWS_TEST_RANDOM_CLIENTS_H

#include "random_topics.h"
#include "talkers.h"

static void check_pong(one *who, const uint8_t *payload, size_t n)
{
    uint64_t number;
    CHECK_EQ(n, sizeof number);
    memcpy(&number, payload, n);
    CHECK(number >= who->pongs && number < who->pings);
    who->pongs = number + 1;
}

static size_t draw_size(void)
{
    return draw(50) == 0 ? draw(120000) : draw(10) == 0 ? draw(20000) : draw(300);
}

static void come(one *who)
{
    *who = (one){.peer = fake_connect()};
    watch_begin(who);
    talker_begin(who);
    who->alone = draw(5) == 0;
    watches[who - ones].mute = draw(6) == 0;
    talker_of(who)->sips = draw(5) == 0 ? (size_t)512 << draw(9) : 0;
    if (talker_of(who)->sips > 0 || draw(4) == 0)
        who->peer->room = draw(200);
    size_t cut = draw(strlen(HEAD) + 1);
    fake_say(who->peer, HEAD, cut);
    whole_turn();
    talker_of(who)->headless = cut < strlen(HEAD) && draw(12) == 0;
    if (talker_of(who)->headless || who->peer->closed)
        return;
    fake_say(who->peer, HEAD + cut, strlen(HEAD) - cut);
    if (draw(2) == 0) /* in the same segment */
        say_frame(who->peer, FWS_PING, &who->pings, sizeof who->pings);
    who->pings = 1;
}

/* A large message in pieces: as fast as it takes to progress, or not. */
static void begin_any_long(one *who)
{
    size_t n = LONG_HEAD + (draw(4) == 0 ? draw(100000) : draw(8000));
    begin_long(who, n, 1 + draw(draw(2) == 0 ? 3 : 60), draw(2), (size_t)16 << draw(12));
}

/* What was begun goes on; pings are answered; who reads slowly reads. */
static void talk_on(void)
{
    for (int i = 0; i < CLIENTS; i++) {
        one *who = &ones[i];
        if (who->peer == NULL || who->peer->fd == 0)
            continue;
        if (talker_of(who)->sips > 0 && who->peer->room != PLENTY)
            fake_room(who->peer, talker_of(who)->sips);
        if (talking(who) && draw(4) == 0)
            say_on(who);
        else if (!talking(who) && who->open && !talker_of(who)->garbled && draw(300) == 0)
            begin_any_long(who);
        answer_ping(who);
    }
}

static void say_last(one *who, void (*how)(fake_peer *peer))
{
    how(who->peer);
    if (watches[who - ones].ended == 0)
        watches[who - ones].ended = fws_engine_time(engine);
}

static void talk(one *who)
{
    if (talker_of(who)->headless)
        return;
    if (talking(who)) {
        say_on(who);
        return;
    }
    uint64_t number = who->pings;
    uint8_t frame[32], letter = (uint8_t)('a' + draw(6));
    switch (draw(16)) {
    case 0:
        say_last(who, fake_end);
        break;
    case 1:
        say_last(who, fake_reset);
        break;
    case 2:
        say_frame(who->peer, FWS_CLOSE, "\x03\xE8", 2);
        break;
    case 3:
        talker_of(who)->garbled = true;
        fake_say(who->peer, "\x81", draw(2));
        break; /* whatever follows: an error, mostly */
    case 4:
    case 5:
    case 6:
    case 7: {
        size_t n = client_frame(frame, FWS_PING, &number, sizeof number), cut = draw(n + 1);
        fake_say(who->peer, frame, cut);
        who->pings++;
        if (draw(2) == 0)
            whole_turn();
        if (who->peer->fd != 0)
            fake_say(who->peer, frame + cut, n - cut);
        break;
    }
    case 8: /* several at once */
        for (uint64_t n = draw(30); n > 0; n--) {
            begin_long(who, LONG_HEAD + draw(200), 1, false, SIZE_MAX);
            say_on(who);
        }
        break;
    case 9:
    case 10:
        begin_any_long(who);
        break;
    default:
        say_frame(who->peer, FWS_TEXT, &letter, 1);
    }
}

static void fault(one *who)
{
    const int faults[] = {EINTR, EAGAIN, ENOBUFS, ENOMEM, EPIPE};
    who->peer->send_errno = faults[draw(draw(10) == 0 ? 5 : 4)];
    who->peer->send_errno_count = 1;
    if (who->peer->send_errno == EAGAIN)
        fake_room(who->peer, 0);
}

static void command_of(one *who)
{
    fws_conn *conn = conn_of(who->peer);
    switch (draw(8)) {
    case 0:
        say_goodbye(who->peer, 1001);
        break;
    case 1:
        leave(who, (uint8_t)draw(TOPICS));
        break;
    case 2:
    case 3:
        if (!who->alone)
            join(who, (uint8_t)draw(TOPICS));
        break;
    case 4:
        if (conn != NULL)
            fws_conn_want_room(engine, conn);
        break;
    case 5:
        (void)command(FWS_CMD_PING, who->peer, NULL, 0, "mine", draw(5));
        break;
    default:
        send_one(who, draw_size());
        break;
    }
}

/* It is read from no more, or for so many messages, or again. */
static void pause_or_not(one *who)
{
    fws_conn *conn = conn_of(who->peer);
    if (conn == NULL || conn->state != FWS_OPEN)
        return;
    fws_conn_credit(engine, conn, draw(2) == 0 ? (uint16_t)draw(3) : FWS_ANY_MESSAGES);
    if (conn->credit == 0 && draw(4) == 0)
        say_last(who, draw(4) == 0 ? fake_reset : fake_end);
}

static void act(one *who)
{
    if (draw(10) == 0)
        pause_or_not(who);
    switch (draw(16)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
        command_of(who);
        break;
    case 6:
        fault(who);
        break;
    case 7:
        if (talker_of(who)->sips == 0)
            who->peer->room = who->peer->room == PLENTY ? draw(50000) : PLENTY;
        break;
    case 8:
    case 9:
        talk(who);
        break;
    default:
        fake_room(who->peer, draw(3) == 0 ? draw(200000) : draw(500));
        break;
    }
}

#endif
