/* Connections in the client role: the peer is the server. */
#include "engine_fixture.h"

static void go_on_with_frames(const fws_event *event)
{
    if (event->kind == FWS_EVENT_HEAD)
        CHECK_EQ(fws_conn_upgrade(engine, event->conn, NULL, 0), FWS_OK);
    else
        usual(event);
}

static fake_peer *call(size_t room)
{
    fake_peer *peer = fake_new();
    peer->room = room;
    on_event = go_on_with_frames;
    CHECK(fws_engine_attach(engine, fake_open(peer), FWS_CLIENT, (const uint8_t *)REQUEST,
                            strlen(REQUEST))
          != NULL);
    return peer;
}

/* Takes a whole masked frame off what the peer got, and its payload into text. */
static uint8_t take_masked(fake_peer *peer, char *text)
{
    fws_header header;
    int size = fws_header_decode(peer->out, peer->out_n, &header);
    CHECK(size > 0 && header.masked && peer->out_n >= (size_t)size + header.length);
    memcpy(text, peer->out + size, header.length);
    fws_mask((uint8_t *)text, header.length, header.key, 0);
    text[header.length] = 0;
    peer->out_n -= (size_t)size + header.length;
    memmove(peer->out, peer->out + size + header.length, peer->out_n);
    return header.opcode;
}

static void test_the_request_leaves_before_the_pong_of_a_hasty_server(void)
{
    char text[126];
    engine_open(&OPTIONS);
    fake_peer *peer = call(0);
    fake_say(peer, ANSWER "\x89\x02hi", strlen(ANSWER) + 4);
    rest();
    CHECK_EQ(peer->out_n, 0);
    fake_room(peer, PLENTY);
    rest();
    CHECK(peer->out_n > strlen(REQUEST) && memcmp(peer->out, REQUEST, strlen(REQUEST)) == 0);
    peer->out_n -= strlen(REQUEST);
    memmove(peer->out, peer->out + strlen(REQUEST), peer->out_n);
    CHECK(take_masked(peer, text) == FWS_PONG && strcmp(text, "hi") == 0);
    CHECK_EQ(peer->out_n, 0);
    engine_close();
}

static void test_what_a_client_sends_is_masked_with_a_key_of_its_own(void)
{
    char text[126];
    uint8_t keys[2][4];
    engine_open(&OPTIONS);
    fake_peer *peer = call(PLENTY);
    fake_say(peer, ANSWER, strlen(ANSWER));
    rest();
    peer->out_n = 0;
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(tell(peer, "hello"), FWS_OK);
        rest();
        memcpy(keys[i], peer->out + 2, 4);
        CHECK(take_masked(peer, text) == FWS_TEXT && strcmp(text, "hello") == 0);
    }
    CHECK(memcmp(keys[0], keys[1], 4) != 0);
    CHECK_EQ(say_goodbye(peer, 1000), FWS_OK);
    rest();
    CHECK(take_masked(peer, text) == FWS_CLOSE
          && strcmp(text, "\x03\xe8"
                          "bye")
                 == 0);
    engine_close();
}

/* RFC 6455 5.1: a topic's frames are written once for all, without a mask. */
static void test_a_client_cannot_be_subscribed(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1 << 20);
    fake_peer *peer = call(PLENTY);
    CHECK_EQ(subscribe(peer, topic), FWS_E_INVALID);
    fake_say(peer, ANSWER, strlen(ANSWER));
    rest();
    CHECK_EQ(subscribe(peer, topic), FWS_E_INVALID);
    CHECK_EQ(topic->n, 0);
    engine_close();
}

static void test_masked_frames_of_a_server_are_refused(void)
{
    char text[126];
    engine_open(&OPTIONS);
    fake_peer *peer = call(PLENTY);
    fake_say(peer, ANSWER, strlen(ANSWER));
    rest();
    peer->out_n = 0;
    say_text(peer, "masked");
    rest();
    CHECK(take_masked(peer, text) == FWS_CLOSE && strcmp(text, "\x03\xea") == 0);
    engine_close();
}

static void test_a_meter_is_given_once(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = call(PLENTY);
    fake_say(peer, ANSWER, strlen(ANSWER));
    rest();
    fws_conn *conn = conn_of(peer);
    CHECK_EQ(fws_conn_meter(engine, conn), FWS_OK);
    fake_say(peer, "\x81\x02hi", 4);
    rest();
    CHECK_EQ(fws_conn_meter(engine, conn), FWS_OK);
    fake_say(peer, "\x81\x02ho", 4);
    rest();
    CHECK_EQ(conn->metered->frames, 2);
    CHECK_EQ(engine->meter->frames, 2);
    expect_heard("");
    engine_close();
}

int main(void)
{
    RUN(test_the_request_leaves_before_the_pong_of_a_hasty_server);
    RUN(test_what_a_client_sends_is_masked_with_a_key_of_its_own);
    RUN(test_a_client_cannot_be_subscribed);
    RUN(test_masked_frames_of_a_server_are_refused);
    RUN(test_a_meter_is_given_once);
    return 0;
}
