/* Clients that come from an address, for tests. */
#ifndef FWS_TEST_CALLERS_H
#define FWS_TEST_CALLERS_H

#include <arpa/inet.h>

#include "engine_fixture.h"

/* A client at that address, which has sent a whole request. */
static inline fake_peer *from(const char *host)
{
    fake_peer *peer = fake_connect();
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(4321)};
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        memcpy(&peer->remote, &v4, sizeof v4);
    } else {
        peer->remote = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(4321)};
        CHECK_EQ(inet_pton(AF_INET6, host, &peer->remote.sin6_addr), 1);
    }
    fake_say(peer, HEAD, strlen(HEAD));
    rest();
    return peer;
}

#endif
