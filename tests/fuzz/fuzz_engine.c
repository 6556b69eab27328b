/* The engine over the network in memory: commands, peers, faults of system calls and the phases of
 * a turn, all from the input. Slots and descriptors are used again at once, and late events and
 * commands for their last occupants come in. At every step each client's bytes are legal
 * (streams.h), accounts balance, memory is bounded; in the end, when all read, everything arrives.
 */
#include "streams.h"

#define WORK_MAX 1500000U /* bytes published in one run, so that it stays quick */
#define STEPS_MAX 1000U

static fuzz_input input;
static uint8_t phase; /* of the turn: harvest, handle and flush, reap */
static size_t work;
static uint32_t stale_event = 4; /* the next wait tells of stale[that]; 4: of none */

static void publish_one(uint8_t topic, size_t size)
{
    static uint8_t payload[PAYLOAD_MAX];
    fws_command what = {.kind = FWS_CMD_PUBLISH, .opcode = FWS_BINARY, .topic = topics[topic],
                        .data = payload};
    if ((work += size + 32) > WORK_MAX)
        return;
    what.n = compose(payload, topic, topics[topic]->log.next_seq, size);
    int status = fws_engine_command(engine, &what);
    CHECK(status >= 0
          || (status == FWS_E_FULL && topics[topic]->options.on_slow == FWS_SLOW_LOSSLESS));
}

static void send_one(one *who, size_t size)
{
    static uint8_t payload[PAYLOAD_MAX];
    fws_command what = {.kind = FWS_CMD_SEND, .opcode = FWS_BINARY, .conn = who->peer->tag,
                        .data = payload};
    what.n = compose(payload, DIRECT, who->direct_next, size);
    int status = fws_engine_command(engine, &what);
    CHECK(status == FWS_OK || status == FWS_E_CLOSED || status == FWS_E_FULL);
    who->direct_next += status == FWS_OK;
}

static void join(one *who, uint8_t topic)
{
    const fws_conn *conn = conn_of(who->peer);
    bool member = conn != NULL && fws_topic_find(topics[topic], conn) != NULL;
    if (who->n_starts[topic] < STARTS && subscribe(who->peer, topics[topic]) == FWS_OK && !member)
        who->starts[topic][who->n_starts[topic]++] = topics[topic]->log.next_seq;
}

/* A size that is small as often as not, up to PAYLOAD_MAX. */
static size_t take_size(void)
{
    size_t size = fuzz_byte(&input);
    return size < 192 ? size : (size - 191) * 640;
}

static void command_of(one *who, uint8_t what)
{
    uint8_t topic = (what >> 4) % TOPICS;
    size_t size;
    switch (what & 7) {
    case 0: join(who, topic); break;
    case 1: unsubscribe(who->peer, topics[topic]); break;
    case 2: send_one(who, take_size()); break;
    case 3: say_goodbye(who->peer, what & 0x80 ? 1005 : 4000); break;
    case 4: publish_one(topic, take_size()); break;
    case 5:
        size = take_size();
        for (uint8_t n = fuzz_byte(&input); n > 0; n--)
            publish_one(topic, size);
        break;
    case 6:
        if (conn_of(who->peer) != NULL && conn_of(who->peer)->state != FWS_DEAD)
            fws_conn_pause(engine, conn_of(who->peer), what & 0x80);
        break;
    default:
        if (conn_of(who->peer) != NULL && conn_of(who->peer)->state != FWS_DEAD)
            fws_conn_kill(engine, conn_of(who->peer), 1006);
    }
}

static void answer_head(one *who, fws_conn *conn)
{
    const uint8_t *ok = (const uint8_t *)OK_ANSWER, *more = (const uint8_t *)CONTINUE_ANSWER;
    uint8_t what = fuzz_byte(&input);
    if (what < 192) {
        who->upgraded = true;
        CHECK_EQ(fws_conn_upgrade(engine, conn, (const uint8_t *)ANSWER, strlen(ANSWER)), FWS_OK);
        for (uint8_t i = 0; i < TOPICS; i++)
            if (what & 1U << i)
                join(who, i);
    } else if (what < 208) {
        CHECK_EQ(fws_conn_expect_body(engine, conn, 1U + what % 16 * 20, more,
                                      what % 2 ? strlen(CONTINUE_ANSWER) : 0), FWS_OK);
    } else if (what < 240) {
        CHECK_EQ(fws_conn_respond(engine, conn, ok, strlen(OK_ANSWER), what % 2), FWS_OK);
    } /* else it is left waiting, until the deadline */
}

static void answer(const fws_event *event)
{
    one *who = ones;
    while (who->peer == NULL || who->peer->fd != event->conn->fd)
        CHECK(++who < ones + CLIENTS);
    if (event->kind == FWS_EVENT_HEAD)
        answer_head(who, event->conn);
    else if (event->kind != FWS_EVENT_MESSAGE)
        CHECK_EQ(fws_conn_respond(engine, event->conn, (const uint8_t *)OK_ANSWER,
                                  strlen(OK_ANSWER), false), FWS_OK);
    else if (event->n > 0)
        command_of(who, event->data[0]);
}

static void come(one *who, uint8_t how)
{
    *who = (one){.peer = fake_connect()};
    if (how & 0x80)
        who->peer->room = fuzz_byte(&input);
    fake_say(who->peer, HEAD, how & 0x40 ? how % strlen(HEAD) : strlen(HEAD));
}

/* The peer says something; whole, or cut short so that another byte string follows. */
static void talk(one *who, uint8_t what)
{
    uint8_t frame[512];
    size_t n = fuzz_byte(&input);
    n = n < input.n ? n : input.n;
    const uint8_t *said = input.at;
    input.at += n;
    input.n -= n;
    if (what & 0x80)
        fake_say(who->peer, said, n);
    else if (what & 0x40)
        fake_say(who->peer, HEAD, strlen(HEAD));
    else
        fake_say(who->peer, frame, client_frame(frame, what % 16, said, n < 126 ? n : 125));
}

static void fault(one *who, uint8_t what)
{
    const int faults[] = {EAGAIN, EINTR, ENOBUFS, ENOMEM, EPIPE, ECONNRESET};
    if (what & 0x80) {
        who->peer->recv_errno = what & 0x40 ? EINTR : ECONNRESET;
        who->peer->edges |= EPOLLIN;
        return;
    }
    who->peer->send_errno = faults[what % 6];
    who->peer->send_errno_count = 1 + (what >> 3) % 4;
    if (who->peer->send_errno == EAGAIN)
        fake_room(who->peer, 0);
}

/* Late news of the dead, as of a descriptor that was closed between two turns. */
static int wait_with_stale(int epoll, struct epoll_event *events, int n, int timeout_ms)
{
    int found = fake_epoll_wait(epoll, events, n - 1, timeout_ms);
    if (found >= 0 && stale_event < 4 && stale[stale_event] != 0)
        events[found++] = (struct epoll_event){.events = EPOLLIN | EPOLLOUT | EPOLLHUP,
                                               .data.u64 = stale[stale_event]};
    stale_event = 4;
    return found;
}

static void use_stale(uint8_t what)
{
    const fake_peer gone = {.tag = stale[what % 4]};
    if (gone.tag == 0)
        return;
    stale_event = what % 4;
    CHECK(fws_engine_find(engine, gone.tag) == NULL);
    CHECK_EQ(subscribe(&gone, topics[0]), FWS_E_CLOSED);
    CHECK_EQ(tell(&gone, "nobody"), FWS_E_CLOSED);
    CHECK_EQ(say_goodbye(&gone, 1000), FWS_E_CLOSED);
}

static void go_on(uint8_t what)
{
    if (phase == 0) {
        harvest();
        handle();
    } else if (phase == 1) { /* budget 0: interrupted after a few sends */
        net.tick = what & 0x80 ? 100000 : 0;
        fws_engine_flush(engine, what & 0x80 ? (what & 0x70U) * 4000 : FWS_TURN_NS);
        net.tick = 0;
    } else {
        reap();
    }
    phase = (phase + 1) % 3;
}

static void step(void)
{
    uint8_t what = fuzz_byte(&input), more = fuzz_byte(&input);
    one *who = &ones[what / 16 % CLIENTS];
    if (who->peer == NULL && what % 16 < 10) {
        come(who, more);
        return;
    }
    switch (what % 16) {
    case 0:
    case 1:
    case 2:
    case 3: command_of(who, more); break;
    case 4: talk(who, more); break;
    case 5: fault(who, more); break;
    case 6: fake_room(who->peer, more < 200 ? more : (more - 199) * 1000U); break;
    case 7: who->peer->room = more < 200 ? more : PLENTY; break;
    case 8: (more & 1 ? fake_end : fake_reset)(who->peer); break;
    case 9: who->peer->unacknowledged = more * 100; break;
    case 10: net.now += more * (uint64_t)10000000; break;
    case 11: publish_one(more % TOPICS, take_size()); break;
    case 15:
        if (more & 0x80) {
            use_stale(more);
            break;
        } /* fall through */
    default: go_on(more); break;
    }
}

static void until_at_rest(void)
{
    for (int i = 0; i < 100; i++) {
        turn();
        if (i > 2 && !fws_engine_more(engine))
            return;
    }
    CHECK(!"it comes to rest");
}

/* Everybody reads: what is promised to those who are still there arrives. */
static void settle_down(void)
{
    while (phase != 0)
        go_on(0);
    for (int i = 0; i < CLIENTS; i++)
        if (ones[i].peer != NULL) {
            ones[i].peer->send_errno_count = 0;
            fake_room(ones[i].peer, PLENTY);
        }
    until_at_rest();
    net.now += FWS_SWEEP_NS;
    until_at_rest();
    check_all();
    for (int i = 0; i < TOPICS; i++) {
        CHECK_EQ(fws_topic_pending(topics[i]), 0);
        CHECK_EQ(topics[i]->active, topics[i]->n);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    fws_options options = HOUSE;
    input = (fuzz_input){data, n};
    options.outbox_limit = 1000U << fuzz_byte(&input) % 8;
    options.limits = (fws_limits){.max_message_size = fuzz_byte(&input) * 4U,
                                  .max_fragments = 1U + fuzz_byte(&input) % 8};
    static fws_sys sys;
    sys = fake_sys;
    sys.epoll_wait = wait_with_stale;
    phase = 0;
    stale_event = 4;
    work = order = n_stale = 0;
    memset(stale, 0, sizeof stale);
    memset(received, 0, sizeof received);
    memset(ones, 0, sizeof ones);
    house_open(&options);
    engine->sys = &sys;
    on_event = answer;
    for (uint8_t i = 0; i < TOPICS; i++)
        topics[i] = topic_of(i, 1000ULL << fuzz_byte(&input) % 8);
    for (uint32_t steps = 0; input.n > 0 && steps < STEPS_MAX; steps++) {
        step();
        check_all();
    }
    settle_down();
    house_close();
    return 0;
}
