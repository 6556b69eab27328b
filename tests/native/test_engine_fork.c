/* A child of the process that made an engine: what it does there leaves the parent alone. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine_fixture.h"

static int harmful, closed;

static int counted_close(int fd)
{
    CHECK(fake_at(fd) != NULL);
    closed++;
    return 0;
}

static int harmful_control(int epoll, int what, int fd, struct epoll_event *event)
{
    (void)epoll, (void)what, (void)fd, (void)event;
    harmful++;
    return 0;
}

static int harmful_shutdown(int fd, int how)
{
    (void)fd, (void)how;
    harmful++;
    return 0;
}

static int harmful_reset(int fd)
{
    (void)fd;
    harmful++;
    return 0;
}

/* HOSTILE X67 */
static void test_a_child_closes_its_descriptors_and_does_nothing_else(void)
{
    engine_open(&OPTIONS);
    fake_peer *peers[3] = {client(), client(), fake_connect()};
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1000);
    peers[0]->room = 0;
    CHECK_EQ(subscribe(peers[0], topic), FWS_OK);
    CHECK_EQ(publish(topic, "pending"), FWS_OK);
    rest();
    fws_sys sys = fake_sys;
    uint32_t forks = fake_forks + 1;
    const int own[] = {engine->epoll, engine->timer, engine->wake, engine->reserve};
    sys.close = counted_close;
    sys.epoll_ctl = harmful_control;
    sys.shutdown = harmful_shutdown;
    sys.reset_at_close = harmful_reset;
    sys.forks = &forks;
    engine->sys = &sys;
    harmful = closed = 0;
    CHECK(fws_engine_inherited(engine));
    CHECK_EQ(publish(topic, "not here"), FWS_E_CLOSED);
    CHECK_EQ(command(FWS_CMD_UNREF, NULL, topic, 0, NULL, 0), FWS_E_CLOSED);
    fws_engine_free(engine);
    CHECK_EQ(closed, 3);
    CHECK_EQ(harmful, 0);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        CHECK(fcntl(own[i], F_GETFD) < 0);

    engine->sys = &fake_sys; /* the parent again */
    engine->epoll = engine->timer = engine->wake = engine->reserve = -1;
    CHECK(!fws_engine_inherited(engine));
    fake_room(peers[0], PLENTY);
    rest();
    expect_got(peers[0], "T(pending) ");
    engine_close();
}

static int listen_here(struct sockaddr_in *address)
{
    socklen_t n = sizeof *address;
    *address = (struct sockaddr_in){.sin_family = AF_INET};
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)address, n) == 0 && listen(fd, 16) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)address, &n) == 0);
    return fd;
}

static int dial(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) == 0);
    CHECK(write(fd, HEAD, strlen(HEAD)) == (ssize_t)strlen(HEAD));
    for (size_t before = heard_n; heard_n == before || fws_engine_more(engine);) {
        CHECK(fws_engine_harvest(engine, 1000) >= 0);
        handle();
        fws_engine_flush(engine, FWS_TURN_NS);
        fws_engine_reap(engine);
        CHECK(fws_topics_collect(fws_engine_topics(engine)) == NULL);
    }
    return fd;
}

static void expect_text(int fd, const char *text)
{
    char got[256] = {0};
    CHECK(recv(fd, got, strlen(ANSWER) + 2 + strlen(text), MSG_WAITALL)
          == (ssize_t)(strlen(ANSWER) + 2 + strlen(text)));
    CHECK(strcmp(got + strlen(ANSWER) + 2, text) == 0);
}

/* HOSTILE X67 */
static void test_a_parent_serves_on_when_a_child_has_freed_its_copy(void)
{
    struct sockaddr_in address;
    int status, listener = listen_here(&address);
    engine = fws_engine_new(&OPTIONS, &fws_sys_linux);
    CHECK(engine != NULL);
    on_event = usual;
    CHECK_EQ(fws_engine_listen(engine, listener), FWS_OK);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1000);
    int before = dial(&address);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(fws_engine_inherited(engine));
        fws_engine_free(engine);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(!fws_engine_inherited(engine));
    int after = dial(&address); /* the listening socket is watched still */
    for (uint32_t i = 0; i < 2; i++) {
        const fws_command join = {
            .kind = FWS_CMD_SUBSCRIBE, .conn = engine->slots[i].conn->id, .topic = topic};
        CHECK_EQ(fws_engine_command(engine, &join), FWS_OK);
    }
    CHECK_EQ(publish(topic, "on"), FWS_OK);
    fws_engine_flush(engine, FWS_TURN_NS);
    expect_text(before, "on");
    expect_text(after, "on");
    fws_engine_free(engine);
    close(before);
    close(after);
    close(listener);
}

int main(void)
{
    RUN(test_a_child_closes_its_descriptors_and_does_nothing_else);
    RUN(test_a_parent_serves_on_when_a_child_has_freed_its_copy);
    return 0;
}
