/* What the runs of the model came to, so that nothing that it is about is left out unnoticed. */
#ifndef FWS_TEST_FIGURES_H
#define FWS_TEST_FIGURES_H

#include "ages.h"
#include "talkers.h"

static uint64_t undecided; /* heads whose owner was told that it is late */

enum { FIGURES = 32 };
static const char *const figures[FIGURES] = {"deaths",
                                             "whole frames",
                                             "compressed frames",
                                             "slow consumers",
                                             "full sockets",
                                             "closed for memory",
                                             "slabs taken",
                                             "messages refused",
                                             "staged refused",
                                             "pings",
                                             "ping time-outs",
                                             "message time-outs",
                                             "write time-outs",
                                             "close time-outs",
                                             "handshake time-outs",
                                             "unread ends",
                                             "checked cut-offs",
                                             "checked time-outs",
                                             "frames begun late",
                                             "long messages",
                                             "heads put off",
                                             "looks at a holder",
                                             "replayed messages",
                                             "conflated messages",
                                             "newest messages of keys",
                                             "messages of some keys",
                                             "accounts of some keys",
                                             "messages in envelopes",
                                             "messages in batches",
                                             "beginnings told",
                                             "gaps told",
                                             "gaps checked"};
static uint64_t sums[FIGURES];

static void add_figures(void)
{
    const fws_counters *counted = &engine->counters;
    const uint64_t run[FIGURES] = {deaths,
                                   whole_frames,
                                   compressed_frames,
                                   counted->slow_closed,
                                   counted->would_block,
                                   counted->buffered_closed,
                                   engine->topics.budget_dropped,
                                   counted->log_full,
                                   counted->staged_refused,
                                   counted->pings,
                                   counted->ping_timeouts,
                                   counted->message_timeouts,
                                   counted->write_timeouts,
                                   counted->close_timeouts,
                                   counted->handshake_timeouts,
                                   counted->unread_ends,
                                   cut_off,
                                   told_timeouts,
                                   begun_late,
                                   long_messages,
                                   undecided,
                                   held_long,
                                   replayed,
                                   engine->topics.account.conflated,
                                   keys_checked,
                                   filtered,
                                   filters_checked,
                                   enclosed,
                                   batched,
                                   began,
                                   gaps_told,
                                   gaps_checked};
    for (int i = 0; i < FIGURES; i++)
        sums[i] += run[i];
}

static void print_figures(void)
{
    for (int i = 0; i < FIGURES; i++)
        printf("%" PRIu64 " %s\n", sums[i], figures[i]);
    printf("%" PRIu64 " bytes past the budget within a turn, at most\n", overshoot);
}

static void check_figures(void)
{
    for (int i = 0; i < FIGURES; i++) {
        if (sums[i] == 0)
            fprintf(stderr, "no %s\n", figures[i]);
        CHECK(sums[i] > 0 || (i == 2 && !fws_deflate_available()));
    }
}

#endif
