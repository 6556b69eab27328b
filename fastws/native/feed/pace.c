#include "feed/pace.h"

#include <string.h>

#define SECOND 1000000000ULL
#define SAMPLE_NS 100000000ULL

typedef unsigned __int128 wide; /* an hour at 100 M/s is 3.6 * 10^20 before the division */

static uint64_t ticks_in(uint64_t ns, uint64_t rate)
{
    return (uint64_t)((wide)ns * rate / SECOND);
}

/* from + ceil(k * 10^9 / rate), the first ns at which ticks_in() says k. */
static uint64_t time_of(uint64_t from, uint64_t k, uint64_t rate)
{
    if (rate == 0)
        return UINT64_MAX;
    wide ns = ((wide)k * SECOND + rate - 1) / rate + from;
    return ns > UINT64_MAX ? UINT64_MAX : (uint64_t)ns;
}

static uint64_t due_by(const fws_pace *pace, uint64_t now)
{
    return now > pace->t0 ? ticks_in(now - pace->t0, pace->rate) : 0;
}

static uint64_t behind(const fws_pace *pace, uint64_t now)
{
    uint64_t due = due_by(pace, now);
    return due > pace->done ? due - pace->done : 0;
}

static void take_sample(fws_pace *pace, uint64_t now)
{
    pace->samples[pace->next_sample] =
        (fws_pace_sample){now, due_by(pace, now), pace->sent - pace->anchored_sent};
    pace->next_sample = (pace->next_sample + 1) % FWS_PACE_SAMPLES;
    if (pace->n_samples < FWS_PACE_SAMPLES)
        pace->n_samples++;
    pace->sample_at = now + SAMPLE_NS;
}

void fws_pace_init(fws_pace *pace, enum fws_late late)
{
    memset(pace, 0, sizeof *pace);
    pace->late = late;
}

void fws_pace_set_rate(fws_pace *pace, uint64_t now, uint64_t rate)
{
    pace->missed += behind(pace, now);
    pace->rate = rate < FWS_RATE_LIMIT ? rate : FWS_RATE_LIMIT;
    pace->t0 = now;
    pace->done = 0;
    pace->catching_up = false;
    pace->anchored_sent = pace->sent;
    pace->n_samples = 0;
    pace->next_sample = 0;
    take_sample(pace, now);
}

static void skip_late(fws_pace *pace, uint64_t now)
{
    if (now <= FWS_PACE_LATE_NS)
        return;
    uint64_t too_late = behind(pace, now - FWS_PACE_LATE_NS - 1);
    pace->missed += too_late;
    pace->done += too_late;
}

/* The allowance counts from the call that found the backlog, not from the last batch:
 * twice the rate over the stall itself would be all of the backlog at once. */
static uint64_t smoothed(fws_pace *pace, uint64_t now, uint64_t due)
{
    if (!pace->catching_up) {
        if (due == 0 || now - fws_pace_due_time(pace, pace->done + 1) <= FWS_PACE_LATE_NS)
            return due;
        pace->catching_up = true;
        pace->catch_up_from = now;
        pace->catch_up_done = pace->done;
    }
    uint64_t elapsed = now > pace->catch_up_from ? now - pace->catch_up_from : 0;
    uint64_t allowed = 1 + ticks_in(elapsed, 2 * pace->rate);
    uint64_t used = pace->done - pace->catch_up_done;
    allowed = allowed > used ? allowed - used : 0;
    return due < allowed ? due : allowed;
}

uint64_t fws_pace_due(fws_pace *pace, uint64_t now)
{
    if (pace->late == FWS_LATE_SKIP)
        skip_late(pace, now);
    uint64_t due = behind(pace, now);
    return pace->late == FWS_LATE_SMOOTH ? smoothed(pace, now, due) : due;
}

void fws_pace_sent(fws_pace *pace, uint64_t now, uint64_t n)
{
    if (n == 0)
        return;
    uint64_t oldest = fws_pace_due_time(pace, pace->done + 1);
    fws_hist_add(&pace->lag, now > oldest ? now - oldest : 0);
    fws_hist_add(&pace->burst, n);
    pace->done += n;
    pace->sent += n;
    pace->last = now;
    if (pace->catching_up && behind(pace, now) == 0)
        pace->catching_up = false;
    if (now >= pace->sample_at)
        take_sample(pace, now);
}

uint64_t fws_pace_next(const fws_pace *pace)
{
    if (pace->rate == 0)
        return UINT64_MAX;
    uint64_t wake = fws_pace_due_time(pace, pace->done + 1);
    if (pace->catching_up) {
        uint64_t used = pace->done - pace->catch_up_done;
        uint64_t allowed_at = time_of(pace->catch_up_from, used, 2 * pace->rate);
        wake = allowed_at > wake ? allowed_at : wake;
    }
    /* No tick is due at time 0, so last is 0 only before the first batch. */
    if (pace->last != 0 && wake < pace->last + FWS_PACE_QUANTUM_NS)
        wake = pace->last + FWS_PACE_QUANTUM_NS;
    return wake;
}

uint64_t fws_pace_due_time(const fws_pace *pace, uint64_t k)
{
    return time_of(pace->t0, k, pace->rate);
}

fws_stride fws_pace_stride(const fws_pace *pace)
{
    /* ceil(a / rate) = floor((a + rate - 1) / rate); the stride carries that remainder. */
    wide first = (wide)(pace->done + 1) * SECOND + pace->rate - 1;
    return (fws_stride){
        .ns = pace->t0 + (uint64_t)(first / pace->rate),
        .remainder = (uint64_t)(first % pace->rate),
        .step = SECOND / pace->rate,
        .step_remainder = SECOND % pace->rate,
        .rate = pace->rate,
    };
}

/* The error sent - due is what is regressed: it is small and exact in integers, where the
 * counts themselves would lose their last digits in the sums of squares. */
double fws_pace_slope_ppm(const fws_pace *pace)
{
    const fws_pace_sample *base = &pace->samples[0];
    double n = pace->n_samples, x = 0, e = 0, xx = 0, xe = 0;
    for (uint32_t i = 0; i < pace->n_samples; i++) {
        const fws_pace_sample *sample = &pace->samples[i];
        x += (double)(int64_t)(sample->due - base->due);
        e += (double)((int64_t)(sample->sent - sample->due) - (int64_t)(base->sent - base->due));
    }
    if (n < 2)
        return 0;
    for (uint32_t i = 0; i < pace->n_samples; i++) {
        const fws_pace_sample *sample = &pace->samples[i];
        double dx = (double)(int64_t)(sample->due - base->due) - x / n;
        double de =
            (double)((int64_t)(sample->sent - sample->due) - (int64_t)(base->sent - base->due))
            - e / n;
        xx += dx * dx;
        xe += dx * de;
    }
    return xx > 0 ? xe / xx * 1e6 : 0;
}
