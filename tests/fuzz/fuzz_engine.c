/* The engine over the network in memory: commands of the driving thread and of others, peers of
 * both roles, plain and compressed, faults of system calls and the phases of a turn, all from the
 * input. Slots and descriptors are used again at once, and late events and commands for their last
 * occupants come in; topics come and go, and their logs share a budget. At every step each
 * client's bytes are legal and inflate to what was published (streams.h), accounts balance, memory
 * is bounded; in the end, when all read, everything arrives.
 */
#include "engine_topics.h"

#define STEPS_MAX 1000U

static uint8_t phase; /* of the turn: harvest, handle and flush, reap */
static bool filled;
static bool many;                /* topics come and go */
static uint32_t stale_event = 4; /* the next wait tells of stale[that]; 4: of none */

/* Once in some runs: other threads have filled the staging but for a few bytes. */
static void fill_staging(uint8_t left)
{
    static const uint8_t zeros[FWS_STAGING_BYTES];
    const size_t used = engine->staging.n + sizeof(fws_command) + left * 8U;
    fws_command what = {.kind = FWS_CMD_SEND, .opcode = FWS_BINARY, .data = zeros};
    if (filled || used > FWS_STAGING_BYTES)
        return;
    filled = true;
    what.n = FWS_STAGING_BYTES - used;
    int status = fws_engine_command(engine, &what); /* to nobody: dropped when applied */
    CHECK(status == FWS_OK || engine->options.max_buffered_bytes > 0);
}

/* Of any length, with a code or without; what cannot be sent is refused. */
static void say_any_goodbye(one *who, uint8_t what)
{
    static const uint8_t reason[2 * FWS_CONTROL_MAX];
    size_t n = (what >> 3 & 15U) * (sizeof reason / 15U);
    uint16_t code = what & 0x80 ? 1005 : 4000;
    int status = command(FWS_CMD_CLOSE, who->peer, NULL, code, reason, n);
    CHECK((status == FWS_E_INVALID) <= (n > (code == 1005 ? 0 : FWS_REASON_MAX)));
}

static void command_of(one *who, uint8_t what)
{
    uint8_t topic = (what >> 4) % TOPICS;
    size_t size;
    switch (what & 7) {
    case 0:
        join(who, topic);
        break;
    case 1:
        leave(who, topic);
        break;
    case 2:
        send_one(who, take_size());
        break;
    case 3:
        say_any_goodbye(who, what);
        break;
    case 4:
        publish_some(topic, NULL, take_size());
        break;
    default:
        size = take_size();
        for (uint8_t n = fuzz_byte(&input); n > 0; n--)
            publish_some(topic, NULL, size);
    }
}

/* What other threads may do is to give commands; the driving one may also stop a connection. */
static void act(one *who, uint8_t what, enum lane which)
{
    fws_conn *conn = conn_of(who->peer);
    from_lane(which);
    if ((what & 7) < 6)
        command_of(who, what);
    else if (which == STAGED)
        fill_staging(what);
    else if (conn != NULL && (what & 7) == 6)
        fws_conn_credit(engine, conn, what & 0x80 ? FWS_ANY_MESSAGES : what >> 4);
    else if (conn != NULL)
        fws_conn_kill(engine, conn, 1006);
    from_lane(AT_ONCE);
}

/* An HTTP answer is there, and the peer goes on with frames. */
static void upgrade(one *who, fws_conn *conn)
{
    const char *answer = who->server ? "" : ANSWER;
    uint8_t how = fuzz_byte(&input);
    if (how & 1 && fws_deflate_available()) {
        who->window_bits = FWS_WINDOW_MIN + (how >> 1) % FWS_WINDOWS;
        CHECK_EQ(fws_conn_deflate(engine, conn, who->window_bits), FWS_OK);
    }
    who->envelope = how & 0x10;
    who->batch = how & 0x80 ? 1 + how % 5 : 0;
    who->upgraded = true;
    CHECK_EQ(fws_conn_upgrade(engine, conn, (const uint8_t *)answer, strlen(answer)), FWS_OK);
    conn->acknowledges = how & 0x40; /* else as of a Unix socket */
    if (who->server && how & 0x20)
        CHECK_EQ(fws_conn_meter(engine, conn), FWS_OK);
}

static void answer_head(one *who, fws_conn *conn)
{
    const uint8_t *ok = (const uint8_t *)OK_ANSWER, *more = (const uint8_t *)CONTINUE_ANSWER;
    uint8_t what = fuzz_byte(&input);
    if (what < 192) {
        upgrade(who, conn);
        for (uint8_t i = 0; i < TOPICS; i++)
            if (what & 1U << i)
                join(who, i);
    } else if (who->server) {
        fws_conn_kill(engine, conn, 1006);
    } else if (what < 208) {
        CHECK_EQ(fws_conn_expect_body(engine, conn, 1U + what % 16 * 20, more,
                                      what % 2 ? strlen(CONTINUE_ANSWER) : 0),
                 FWS_OK);
    } else if (what < 240) {
        CHECK_EQ(fws_conn_respond(engine, conn, ok, strlen(OK_ANSWER), what % 2), FWS_OK);
    } /* else it is left waiting, until the deadline */
}

static void answer(const fws_event *event)
{
    one *who = one_of(event->conn);
    if (event->kind == FWS_EVENT_HEAD)
        answer_head(who, event->conn);
    else if (event->kind == FWS_EVENT_MESSAGE && event->n > 0)
        act(who, event->data[0], AT_ONCE);
    else if (event->kind != FWS_EVENT_MESSAGE && who->server)
        fws_conn_kill(engine, event->conn, 1006);
    else if (event->kind != FWS_EVENT_MESSAGE)
        CHECK_EQ(fws_conn_respond(engine, event->conn, (const uint8_t *)OK_ANSWER,
                                  strlen(OK_ANSWER), false),
                 FWS_OK);
}

static void come(one *who, uint8_t how)
{
    const char *head = how & 0x20 ? ANSWER : HEAD;
    if (how & 0x20)
        call(who);
    else
        *who = (one){.peer = fake_connect()};
    if (how & 0x80)
        who->peer->room = fuzz_byte(&input);
    fake_say(who->peer, head, how & 0x40 ? how % strlen(head) : strlen(head));
}

/* Bytes of the input as a frame, as they are or compressed first. */
static void say_as_frame(one *who, uint8_t what, const uint8_t *said, size_t n)
{
    const uint8_t key[4] = {1, 2, 3, 4};
    uint8_t frame[512];
    size_t shrunk = what & 0x20 ? fws_deflate_message(codec, FWS_WINDOW_MAX, said, n, &said) : 0;
    unsigned rsv = shrunk > 0 || what & 0x10 ? FWS_RSV1 : 0;
    n = shrunk > 0 ? shrunk : n;
    size_t head = fws_header_encode(frame, what % 16, true, rsv, n, who->server ? NULL : key);
    if (n > 0)
        memcpy(frame + head, said, n);
    if (!who->server)
        fws_mask(frame + head, n, key, 0);
    fake_say(who->peer, frame, head + n);
}

/* The peer says something; whole, or cut short so that another byte string follows. */
static void talk(one *who, uint8_t what)
{
    const char *head = who->server ? ANSWER : HEAD;
    size_t n = fuzz_byte(&input);
    n = n < input.n ? n : input.n;
    const uint8_t *said = input.at;
    input.at += n;
    input.n -= n;
    if (what & 0x80)
        fake_say(who->peer, said, n);
    else if (what & 0x40)
        fake_say(who->peer, head, strlen(head));
    else
        say_as_frame(who, what, said, n);
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
        harvest_and_learn();
        handle();
    } else if (phase == 1) { /* budget 0: interrupted after a few sends */
        net.tick = what & 0x80 ? 100000 : 0;
        fws_engine_flush(engine, what & 0x80 ? (what & 0x70U) * 4000 : FWS_TURN_NS);
        net.tick = 0;
    } else {
        reap_and_learn();
    }
    phase = (phase + 1) % 3;
}

static void step(void)
{
    uint8_t what = fuzz_byte(&input), more = fuzz_byte(&input);
    one *who = &ones[what / 16 % SEATS];
    if (who->peer == NULL && what % 16 < 10) {
        come(who, more);
        return;
    }
    switch (what % 16) {
    case 0:
    case 1:
        act(who, more, AT_ONCE);
        break;
    case 2:
    case 3:
        act(who, more, STAGED);
        break;
    case 4:
        talk(who, more);
        break;
    case 5:
        fault(who, more);
        break;
    case 6:
        fake_room(who->peer, more < 200 ? more : (more - 199) * 1000U);
        break;
    case 7:
        who->peer->room = more < 200 ? more : PLENTY;
        break;
    case 8:
        (more & 1 ? fake_end : fake_reset)(who->peer);
        break;
    case 9:
        who->peer->unacknowledged = more * 100;
        break;
    case 10:
        net.now += more * (uint64_t)10000000;
        break;
    case 11:
        publish_some(more % TOPICS, NULL, take_size());
        break;
    case 12:
        if (many)
            topics_step(who, fuzz_byte(&input), more);
        else
            go_on(more);
        break;
    case 15:
        if (more & 0x80) {
            use_stale(more);
            break;
        } /* fall through */
    default:
        go_on(more);
        break;
    }
}

static void check_bounds(void)
{
    for (uint32_t i = 0; i < engine->n_slots; i++) {
        const fws_conn *conn = engine->slots[i].conn;
        if (conn == NULL)
            continue;
        CHECK(conn->outbox.bytes <= engine->options.outbox_limit + SIZE_MOST + 1024);
        CHECK(conn->inbuf.n <= FWS_RECEIVE_CHUNK);
        uint64_t most = engine->options.limits.max_message_size;
        if (conn->reader.compressed) /* what does not shrink grows by its blocks' headers */
            most += most / 64 + 64;
        CHECK(conn->reader.have <= most);
    }
}

static fws_options take_options(void)
{
    fws_options options = OPTIONS;
    uint8_t first = fuzz_byte(&input), budget = first & 0x80 ? fuzz_byte(&input) : 0;
    many = first & 0x80;
    options.outbox_limit = 1000U << first % 8;
    options.max_log_bytes = budget & 1 ? 10000ULL << (budget >> 1) % 8 : 0;
    options.max_buffered_bytes = budget & 0x10 ? 3000ULL << (budget >> 5) : 0;
    options.limits = (fws_limits){.max_message_size = fuzz_byte(&input) * 4U,
                                  .max_fragments = 1U + fuzz_byte(&input) % 8};
    uint8_t times = fuzz_byte(&input);
    filled = times < 240; /* costs as much as all the rest of a run */
    options.ping_ns = times & 1 ? SECOND : 0;
    options.pong_ns = SECOND / 2;
    options.message_ns = times & 2 ? 2 * SECOND : 0;
    options.write_ns = times & 4 ? 2 * SECOND : 0;
    options.message_rate = times & 8 ? 1ULL << (times >> 4) : 0;
    options.byte_rate = times & 16 ? 64ULL << (times >> 5) : 0;
    options.handshake_rate = times & 32 ? 1U + (times >> 6) : 0;
    options.max_per_address = times & 64 ? 3 : 0;
    return options;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    input = (fuzz_input){data, n};
    const fws_options options = take_options();
    static fws_sys sys;
    sys = fake_sys;
    sys.epoll_wait = wait_with_stale;
    phase = 0;
    stale_event = 4;
    work = 0;
    streams_open(&options);
    engine->sys = &sys;
    on_event = answer;
    on_wanted = hear;
    on_told = told;
    for (uint8_t i = 0; i < TOPICS; i++)
        make_lasting(i, i, 1000ULL << fuzz_byte(&input) % 8);
    for (uint32_t steps = 0; input.n > 0 && steps < STEPS_MAX; steps++) {
        step();
        check_all();
        check_bounds();
    }
    while (phase != 0)
        go_on(0);
    settle_down();
    if (many)
        check_age();
    engine_close();
    return 0;
}
