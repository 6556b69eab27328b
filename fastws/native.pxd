# Every C name that Cython uses, by header. Nothing else declares one.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "wire/status.h" nogil:
    enum:
        FWS_OK
        FWS_E_NOMEM
        FWS_E_FULL
        FWS_E_CLOSED
        FWS_E_INVALID
        FWS_E_SYSTEM
        FWS_E_MANY


cdef extern from "wire/frame.h" nogil:
    enum fws_opcode:
        FWS_TEXT
        FWS_BINARY
        FWS_CLOSE
        FWS_PING
        FWS_PONG
    enum fws_role:
        FWS_SERVER
        FWS_CLIENT
    enum:
        FWS_HEADER_MAX
        FWS_CONTROL_MAX
        FWS_REASON_MAX
    size_t fws_header_encode(uint8_t *out, unsigned opcode, bint fin, unsigned rsv,
                             uint64_t length, const uint8_t *key)


cdef extern from "wire/message.h" nogil:
    bint fws_close_code_valid(uint16_t code)


cdef extern from "wire/envelope.h" nogil:
    enum fws_content:
        FWS_CONTENT_TEXT
        FWS_CONTENT_JSON
        FWS_CONTENT_BINARY


cdef extern from "wire/mask.h" nogil:
    unsigned fws_mask(uint8_t *data, size_t n, const uint8_t *key, unsigned phase)


cdef extern from "wire/deflate.h" nogil:
    bint fws_deflate_available()


cdef extern from "wire/message.h" nogil:
    ctypedef struct fws_limits:
        uint64_t max_message_size
        uint32_t max_fragments


cdef extern from "bench/hist.h" nogil:
    ctypedef struct fws_hist:
        uint64_t total
        uint64_t max
        uint64_t sum
    void fws_hist_clear(fws_hist *hist)
    uint64_t fws_hist_quantile(const fws_hist *hist, double q)


cdef extern from "feed/pace.h" nogil:
    enum fws_late:
        FWS_LATE_BURST
        FWS_LATE_SMOOTH
        FWS_LATE_SKIP
    ctypedef struct fws_pace:
        uint64_t rate
        uint64_t sent
        uint64_t missed
        fws_hist lag
        fws_hist burst
    double fws_pace_slope_ppm(const fws_pace *pace)


cdef extern from "feed/tick.h" nogil:
    enum fws_tick_format:
        FWS_TICK_JSON
        FWS_TICK_BINARY
    enum fws_tick_fields:
        FWS_TICK_BASE
        FWS_TICK_SEQ
        FWS_TICK_QUOTE
    enum:
        FWS_TICK_MAX
    ctypedef struct fws_ticks:
        pass
    void fws_ticks_init(fws_ticks *ticks, uint64_t seed, fws_tick_format format,
                        fws_tick_fields fields)
    void fws_ticks_set_format(fws_ticks *ticks, fws_tick_format format)
    size_t fws_tick_write(fws_ticks *ticks, uint8_t *out, uint64_t ts_ns, uint64_t seq)


cdef extern from "bench/meter.h" nogil:
    ctypedef struct fws_metered:
        uint64_t frames
        uint64_t bytes
        uint64_t gaps
        uint64_t missed
        uint64_t duplicates
        uint64_t reordered
        bint seen_seq
    ctypedef struct fws_meter:
        bint any
        uint64_t frames
        uint64_t bytes
        uint64_t sampled
        uint64_t bad
        uint64_t gaps
        uint64_t missed
        uint64_t duplicates
        uint64_t reordered
        char first_error[160]
        bint recording
        fws_hist latency


cdef extern from "core/sys.h" nogil:
    ctypedef struct fws_sys:
        pass
    const fws_sys fws_sys_linux


cdef extern from "core/conn.h" nogil:
    enum fws_state:
        FWS_OPEN
        FWS_DEAD
    enum:
        FWS_ANY_MESSAGES
    enum fws_began:
        FWS_BEGAN_NOW
        FWS_BEGAN_SINCE
    ctypedef struct fws_conn:
        pass
    ctypedef struct fws_sub:
        pass


cdef extern from "core/sub.h" nogil:
    enum fws_on_slow:
        FWS_SLOW_CLOSE
        FWS_SLOW_LATEST
        FWS_SLOW_LOSSLESS
        FWS_SLOW_DROP_OLDEST
    enum:
        FWS_NAME_MAX
        FWS_KEY_MAX
        FWS_FILTER_MOST
    ctypedef struct fws_topic_options:
        uint64_t retention_bytes
        uint64_t max_lag_bytes
        uint64_t max_lag_messages
        uint8_t on_slow
        uint64_t history_messages
        uint64_t history_bytes
        uint64_t history_ns
        uint64_t max_lag_ns
        uint64_t min_rate
        bint retain
        uint8_t content
    ctypedef struct fws_account:
        uint64_t published
        uint64_t delivered
        uint64_t acknowledged
        uint64_t dropped
        uint64_t conflated
        uint64_t pending
    ctypedef struct fws_topic_account:
        uint64_t published
        uint64_t delivered
        uint64_t acknowledged
        uint64_t dropped
        uint64_t conflated
        uint64_t pending
        uint64_t subscribers
        uint64_t retained_bytes
        uint64_t appended
    ctypedef struct fws_reader_account:
        uint64_t published
        uint64_t delivered
        uint64_t acknowledged
        uint64_t dropped
        uint64_t conflated
        uint64_t pending
        uint64_t lag_bytes
        double lag_seconds
    ctypedef struct fws_topic:
        pass
    ctypedef struct fws_topics:
        pass
    enum fws_why:
        FWS_WHY_SLOW
        FWS_WHY_RETENTION
        FWS_WHY_BUDGET
    ctypedef struct fws_losses:
        uint64_t id
    ctypedef struct fws_loss:
        uint64_t id
        bint shared
        const fws_sub *sub
        fws_conn *conn
        fws_topic *topic
        uint64_t first
        uint64_t last
        uint64_t count
        uint8_t why
    fws_losses *fws_losses_new(uint64_t id)
    void fws_losses_free(fws_losses *losses)
    bint fws_topics_next_loss(fws_topics *topics, fws_loss *loss)
    bint fws_topic_takes(fws_topic *topic, size_t n)
    bint fws_topic_never_takes(const fws_topic *topic, size_t n)
    int fws_topic_want_room(fws_topic *topic, size_t n)
    bint fws_topics_next_room(fws_topics *topics, fws_topic **found)
    fws_topic *fws_topics_find(const fws_topics *topics, const char *name, size_t n)
    fws_topic *fws_topics_collect(fws_topics *topics)
    void fws_topic_ref(fws_topic *topic)
    void fws_topic_unref(fws_topic *topic)
    void fws_topic_close(fws_topic *topic)
    int fws_topic_set_options(fws_topic *topic, const fws_topic_options *options)
    bint fws_sub_encodes(const fws_sub *sub, bint envelope, uint16_t batch)
    fws_sub *fws_conn_find_sub(const fws_conn *conn, const fws_topic *topic)
    bint fws_sub_has_keys(const fws_sub *sub, const uint8_t *names, size_t n)
    bint fws_topic_recovers(const fws_topic *topic, uint64_t epoch, uint64_t seq)
    uint64_t fws_topic_start(const fws_topic *topic, const fws_topic_options *options)
    uint64_t fws_topic_history_from(const fws_topic *topic)
    fws_topic_account fws_topic_snapshot(const fws_topic *topic)
    fws_reader_account fws_sub_snapshot(const fws_sub *sub, uint64_t now)
    fws_reader_account fws_conn_snapshot(const fws_conn *conn, uint64_t now)


cdef extern from "core/wildcards.h" nogil:
    enum:
        FWS_WILD_PREFIX
        FWS_WILD_MOST
    ctypedef struct fws_wild_options:
        uint8_t prefix_n
        uint8_t prefix[FWS_WILD_PREFIX]
        bint has_policy
        bint has_lag
        uint8_t on_slow
        uint64_t max_lag_bytes
        uint64_t max_lag_messages
        uint64_t max_lag_ns
    fws_topic *fws_topics_open(fws_topics *topics, const char *name, size_t n,
                               const fws_topic_options *options)
    bint fws_conn_has_wild(const fws_conn *conn, const uint8_t *prefix, size_t n)
    fws_topic *fws_conn_next_wild(const fws_conn *conn, const uint8_t *prefix, size_t n,
                                  uint32_t *place)
    void fws_topics_close_idle(fws_topics *topics)


cdef extern from "core/source.h" nogil:
    ctypedef struct fws_source:
        pass
    void fws_source_init(fws_source *source, fws_topic *topic, uint64_t seed,
                         fws_tick_format format, fws_tick_fields fields, fws_late late)
    void fws_source_set_format(fws_source *source, fws_tick_format format)
    const fws_pace *fws_source_pace(const fws_source *source)


cdef extern from "core/rate.h" nogil:
    uint64_t FWS_RATE_MOST


cdef extern from "core/engine.h" nogil:
    enum:
        FWS_BATCH_MOST
    enum:
        FWS_TURN_NS
        FWS_EVENTS_NS
        FWS_MAX_TURN_NS
        FWS_EXEMPT_MOST
    ctypedef struct fws_network:
        uint8_t address[16]
        uint8_t bits
    ctypedef struct fws_options:
        uint32_t head_limit
        uint32_t max_connections
        uint32_t max_per_address
        uint64_t handshake_rate
        uint32_t n_exempt
        fws_network exempt[FWS_EXEMPT_MOST]
        uint64_t message_rate
        uint64_t byte_rate
        uint64_t ping_ns
        uint64_t pong_ns
        uint64_t message_ns
        uint64_t write_ns
        uint64_t handshake_ns
        uint64_t keep_alive_ns
        uint64_t close_ns
        uint64_t max_stall_ns
        uint32_t outbox_limit
        uint32_t high_mark
        int notsent_lowat
        uint64_t max_log_bytes
        uint64_t max_buffered_bytes
        uint32_t max_subscriptions
        fws_limits limits
    enum fws_event_kind:
        FWS_EVENT_HEAD
        FWS_EVENT_HEAD_LIMIT
        FWS_EVENT_BODY
        FWS_EVENT_MESSAGE
        FWS_EVENT_PONG
        FWS_EVENT_UNDECIDED
    ctypedef struct fws_event:
        fws_conn *conn
        const uint8_t *data
        size_t n
        uint8_t kind
        uint8_t opcode
    ctypedef struct fws_counters:
        uint64_t accepted
        uint64_t refused
        uint64_t accept_failures
        uint64_t sends
        uint64_t send_failures
        uint64_t would_block
        uint64_t wakes
        uint64_t handshake_timeouts
        uint64_t slow_closed
        uint64_t protocol_errors
        uint64_t staged_refused
        uint64_t unread_ends
        uint64_t keep_alive_timeouts
        uint64_t close_timeouts
        uint64_t log_full
        uint64_t address_refused
        uint64_t pings
        uint64_t ping_timeouts
        uint64_t message_timeouts
        uint64_t write_timeouts
        uint64_t handler_queue_full
        uint64_t deflated
        uint64_t lapped
        uint64_t buffered_closed
        uint64_t message_rate_paused
        uint64_t byte_rate_paused
        uint64_t handshakes_refused
        uint64_t subscriptions_refused
    enum fws_limit_met:
        FWS_MET_PER_ADDRESS
        FWS_MET_HANDSHAKE_RATE
        FWS_MET_MESSAGE_RATE
        FWS_MET_BYTE_RATE
    ctypedef struct fws_engine:
        pass
    fws_engine *fws_engine_new(const fws_options *options, const fws_sys *sys)
    void fws_engine_free(fws_engine *engine)
    int fws_engine_listen(fws_engine *engine, int fd)
    void fws_engine_unlisten(fws_engine *engine, int fd)
    fws_conn *fws_engine_attach(fws_engine *engine, int fd, fws_role role, const uint8_t *data,
                                size_t n)
    uint16_t fws_conn_remote(const fws_conn *conn, char *host, size_t n)
    uint16_t fws_engine_met_last(const fws_engine *engine, fws_limit_met limit, char *host,
                                 size_t n)
    fws_topics *fws_engine_topics(fws_engine *engine)
    void fws_conn_kill(fws_engine *engine, fws_conn *conn, uint16_t code)
    void fws_conn_cut_off(fws_engine *engine, fws_conn *conn)
    void fws_engine_reap(fws_engine *engine)
    int fws_engine_harvest(fws_engine *engine, int timeout_ms)
    void fws_engine_resume(fws_engine *engine)
    const fws_event *fws_engine_next_event(fws_engine *engine)
    bint fws_engine_more(const fws_engine *engine)
    int fws_conn_respond(fws_engine *engine, fws_conn *conn, const uint8_t *data, size_t n,
                         bint keep_alive)
    int fws_conn_upgrade(fws_engine *engine, fws_conn *conn, const uint8_t *data, size_t n)
    int fws_conn_answer_upgrade(fws_engine *engine, fws_conn *conn, const uint8_t *data,
                                size_t n)
    int fws_conn_expect_body(fws_engine *engine, fws_conn *conn, uint32_t body_n,
                             const uint8_t *data, size_t n)
    int fws_conn_deflate(fws_engine *engine, fws_conn *conn, unsigned window_bits)
    void fws_conn_credit(fws_engine *engine, fws_conn *conn, uint16_t messages)
    int fws_conn_meter(fws_engine *engine, fws_conn *conn)
    bint fws_engine_waits(const fws_engine *engine)
    void fws_engine_flush(fws_engine *engine, uint64_t budget_ns)
    void fws_engine_set_rate(fws_engine *engine, uint64_t rate, bint max)
    void fws_engine_wake(fws_engine *engine)
    void fws_conn_acknowledge(fws_engine *engine, fws_conn *conn)
    enum fws_command_kind:
        FWS_CMD_SUBSCRIBE
        FWS_CMD_UNSUBSCRIBE
        FWS_CMD_PUBLISH
        FWS_CMD_SEND
        FWS_CMD_CLOSE
        FWS_CMD_UNREF
        FWS_CMD_SUBSCRIBE_ALL
        FWS_CMD_UNSUBSCRIBE_ALL
        FWS_CMD_PING
    ctypedef struct fws_command:
        uint8_t kind
        uint8_t opcode
        uint16_t code
        bint since
        bint envelope
        uint16_t batch
        uint16_t key_n
        const uint8_t *key
        uint64_t epoch
        uint64_t seq
        uint64_t gap_ns
        fws_losses *losses
        uint64_t conn
        fws_topic *topic
        const uint8_t *data
        size_t n
    int fws_engine_command(fws_engine *engine, const fws_command *command)
    ctypedef struct fws_shared:
        const uint8_t *data
        size_t n
        uint8_t opcode
    int fws_engine_send_shared(fws_engine *engine, fws_conn *conn, fws_shared *message)
    void fws_shared_clear(fws_shared *message)
    bint fws_engine_foreign(const fws_engine *engine)
    bint fws_engine_inherited(const fws_engine *engine)
    void fws_engine_drive(fws_engine *engine)
    uint64_t fws_engine_buffered(const fws_engine *engine)
    bint fws_conn_full(const fws_engine *engine, const fws_conn *conn)
    void fws_conn_want_room(fws_engine *engine, fws_conn *conn)
    fws_conn *fws_engine_next_room(fws_engine *engine)


cdef extern from "core/facts.h" nogil:
    ctypedef struct fws_conn_facts:
        uint64_t id
        uint8_t state
        bint over_limit
        bint over_address
        bint acknowledges
        uint16_t close_code
        uint32_t reason_n
        const uint8_t *reason
        size_t buffered
    fws_conn_facts fws_conn_facts_of(const fws_conn *conn)
    fws_metered fws_conn_metered(const fws_conn *conn)
    ctypedef struct fws_close:
        uint16_t code
        uint8_t n
        const uint8_t *reason
    ctypedef struct fws_closes:
        fws_close received
        fws_close sent
        bint peer_first
    fws_closes fws_conn_closes(const fws_conn *conn)
    uint64_t fws_conn_id(const fws_conn *conn)
    bint fws_conn_dead(const fws_conn *conn)
    int fws_engine_fd(const fws_engine *engine)
    uint32_t fws_engine_live(const fws_engine *engine)
    uint64_t fws_engine_now(const fws_engine *engine)
    fws_counters fws_engine_counters(const fws_engine *engine)
    fws_conn *fws_engine_next_dead(const fws_engine *engine, const fws_conn *conn)
    fws_conn *fws_engine_next_conn(const fws_engine *engine, uint32_t *slot)
    enum:
        FWS_LIST_MOST
    uint32_t fws_engine_laggards(const fws_engine *engine, fws_conn **found, uint32_t most)
    uint32_t fws_topics_largest(const fws_topics *topics, fws_topic **found, uint32_t most)
    fws_topic *fws_topics_next(const fws_topics *topics, uint32_t *place)
    const fws_hist *fws_topics_latency(const fws_topics *topics)
    enum fws_behind:
        FWS_BEHIND_NOT
        FWS_BEHIND_UNSENT
        FWS_BEHIND_RATE
        FWS_BEHIND_FULL
        FWS_BEHIND_NOT_READING
    fws_behind fws_conn_behind(const fws_engine *engine, const fws_conn *conn)
    fws_account fws_topics_sums(const fws_topics *topics)
    fws_source *fws_engine_source(fws_engine *engine)
    fws_meter *fws_engine_meter(fws_engine *engine)
    ctypedef struct fws_topic_facts:
        const char *name
        uint16_t name_n
        bint configured
        bint closed
        uint64_t epoch
        void *owner
        fws_topic_options options
    fws_topic_facts fws_topic_facts_of(const fws_topic *topic)
    void fws_topic_own(fws_topic *topic, void *owner)
    void fws_topic_configure(fws_topic *topic, bint configured)
    void fws_topic_watch(fws_topic *topic, bint watched)
    bint fws_topic_wanted(const fws_topic *topic)
    ctypedef struct fws_topic_message:
        const uint8_t *data
        size_t n
        uint8_t opcode
    fws_topic_message fws_topic_message_at(const fws_topic *topic, uint64_t seq)
    ctypedef struct fws_newest:
        fws_topic_message message
        uint64_t seq
        const char *key
        size_t key_n
    fws_newest fws_topic_newest_from(const fws_topic *topic, uint64_t seq)
    ctypedef struct fws_sub_facts:
        uint32_t id
        uint8_t began
        bint wild
        uint64_t seq
        bint envelope
        uint16_t batch
        uint64_t gap_ns
        fws_topic_options options
    ctypedef struct fws_key_name:
        const char *data
        uint8_t n
    fws_key_name fws_sub_key_name(const fws_sub *sub, uint32_t i)
    fws_sub_facts fws_sub_facts_of(const fws_sub *sub)
