# cython: boundscheck=False, wraparound=False
"""The core's counts as dicts. Floor 4: reads, changes nothing, asks no kernel."""

from fastws.native cimport *


cdef dict of_topic(fws_topic *t):
    """What `Topic.account` returns."""
    cdef uint64_t acknowledged = t.acknowledged
    cdef uint32_t i
    for i in range(t.n):
        acknowledged += t.members[i].acknowledged
    return {
        "published": t.published_to,
        "delivered": t.delivered,
        "acknowledged": acknowledged,
        "dropped": t.dropped,
        "conflated": t.conflated,
        "pending": fws_topic_pending(t),
        "subscribers": t.n,
        "retained_bytes": fws_log_retained(&t.log),
        "appended": t.log.next_seq,
    }


cdef dict of_connection(fws_conn *c, uint64_t now):
    """What `Connection.account` returns; now is CLOCK_MONOTONIC in ns."""
    cdef fws_sub *sub = c.subs
    cdef uint64_t published = 0, delivered = 0, acknowledged = 0, dropped = 0, conflated = 0
    cdef uint64_t pending = 0, lag_bytes = 0, size, since = now
    while sub is not NULL:
        pending += fws_sub_pending(sub, &size)
        lag_bytes += size
        since = min(since, fws_sub_waiting_since(sub))
        published += sub.topic.log.next_seq - sub.start
        delivered += sub.delivered
        acknowledged += sub.acknowledged
        dropped += sub.dropped
        conflated += sub.conflated
        sub = sub.next
    return {
        "published": published,
        "delivered": delivered,
        "acknowledged": acknowledged if c.acknowledges else None,
        "dropped": dropped,
        "conflated": conflated,
        "pending": pending,
        "lag_bytes": lag_bytes,
        "lag_seconds": (now - since) / 1e9,
    }


cdef dict of_engine(const fws_counters *counters):
    """What `Engine.counters` returns: the names of the struct."""
    return counters[0]


cdef dict of_source(const fws_pace *pace):
    """What `Engine.pacing` returns."""
    return {
        "sent": pace.sent,
        "missed": pace.missed,
        "slope_ppm": fws_pace_slope_ppm(pace),
        "lag_us": {
            "p50": fws_hist_quantile(&pace.lag, 0.5) / 1000,
            "p99": fws_hist_quantile(&pace.lag, 0.99) / 1000,
            "max": pace.lag.max / 1000,
        },
        "burst": {
            "p50": fws_hist_quantile(&pace.burst, 0.5),
            "p99": fws_hist_quantile(&pace.burst, 0.99),
            "max": pace.burst.max,
        },
    }


cdef dict of_meter(const fws_meter *meter):
    """What `Engine.metered` returns; NULL is a meter that has counted nothing."""
    if meter is NULL:
        return {
            "frames": 0, "bytes": 0, "sampled": 0, "bad": 0, "gaps": 0, "reordered": 0,
            "first_error": "",
            "latency_ms": {"n": 0, "mean": 0.0, "p50": 0.0, "p99": 0.0, "max": 0.0},
        }
    return {
        "frames": meter.frames,
        "bytes": meter.bytes,
        "sampled": meter.sampled,
        "bad": meter.bad,
        "gaps": meter.gaps,
        "reordered": meter.reordered,
        "first_error": (<bytes>meter.first_error).decode("utf-8", "replace"),
        "latency_ms": {
            "n": meter.latency.total,
            "mean": meter.latency.sum / 1e6 / max(meter.latency.total, <uint64_t>1),
            "p50": fws_hist_quantile(&meter.latency, 0.5) / 1e6,
            "p99": fws_hist_quantile(&meter.latency, 0.99) / 1e6,
            "max": meter.latency.max / 1e6,
        },
    }
