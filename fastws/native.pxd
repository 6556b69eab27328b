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
        FWS_REASON_MAX
    size_t fws_header_encode(uint8_t *out, unsigned opcode, bint fin, unsigned rsv,
                             uint64_t length, const uint8_t *key)


cdef extern from "wire/message.h" nogil:
    bint fws_close_code_valid(uint16_t code)


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
        bint seen_seq
    ctypedef struct fws_meter:
        uint64_t frames
        uint64_t bytes
        uint64_t sampled
        uint64_t bad
        uint64_t gaps
        uint64_t reordered
        char first_error[160]
        bint recording
        fws_hist latency


cdef extern from "log/log.h" nogil:
    ctypedef struct fws_log:
        uint64_t next_seq
        uint64_t bytes
    uint64_t fws_log_retained(const fws_log *log)


cdef extern from "core/sys.h" nogil:
    ctypedef struct fws_sys:
        uint64_t (*monotonic)() noexcept nogil
    const fws_sys fws_sys_linux


cdef extern from "core/conn.h" nogil:
    enum fws_state:
        FWS_HTTP
        FWS_OPEN
        FWS_DEAD
    enum:
        FWS_ANY_MESSAGES
    ctypedef struct fws_topic
    ctypedef struct fws_conn
    ctypedef struct fws_outbox:
        size_t bytes
    ctypedef struct fws_sub:
        fws_topic *topic
        fws_conn *conn
        fws_sub *next
        uint64_t start
        uint64_t delivered
        uint64_t dropped
        uint64_t conflated
        uint64_t acknowledged
    ctypedef struct fws_conn:
        fws_conn *next_dead
        uint64_t id
        int fd
        uint8_t state
        bint known
        bint acknowledges
        bint over_address
        bint over_limit
        uint16_t close_code
        uint64_t progress
        fws_outbox outbox
        fws_sub *subs
        uint64_t bytes_written
        uint64_t messages_in
        uint32_t reason_n
        uint8_t *reason
        fws_metered *metered


cdef extern from "core/topic.h" nogil:
    enum fws_on_slow:
        FWS_SLOW_CLOSE
        FWS_SLOW_LATEST
        FWS_SLOW_LOSSLESS
    ctypedef struct fws_topic_options:
        uint64_t retention_bytes
        uint64_t max_lag_bytes
        uint8_t on_slow
    ctypedef struct fws_topic:
        fws_log log
        fws_topic_options options
        fws_sub **members
        uint32_t n
        uint64_t published_to
        uint64_t delivered
        uint64_t dropped
        uint64_t conflated
        uint64_t acknowledged
    void fws_topic_set_options(fws_topic *topic, const fws_topic_options *options)
    uint64_t fws_sub_pending(const fws_sub *sub, uint64_t *bytes)
    uint64_t fws_sub_waiting_since(const fws_sub *sub)
    uint64_t fws_topic_pending(const fws_topic *topic)


cdef extern from "core/source.h" nogil:
    ctypedef struct fws_source:
        fws_topic *topic
        fws_ticks ticks
        fws_pace pace
        bint max
        bint running
    void fws_source_init(fws_source *source, fws_topic *topic, uint64_t seed,
                         fws_tick_format format, fws_tick_fields fields, fws_late late)


cdef extern from "core/engine.h" nogil:
    enum:
        FWS_TURN_NS
    ctypedef struct fws_options:
        uint32_t head_limit
        uint32_t max_connections
        uint32_t max_per_address
        uint64_t ping_ns
        uint64_t pong_ns
        uint64_t message_ns
        uint64_t write_ns
        uint64_t handshake_ns
        uint64_t keep_alive_ns
        uint64_t close_ns
        uint64_t max_stall_ns
        uint32_t outbox_limit
        int notsent_lowat
        fws_limits limits
    enum fws_event_kind:
        FWS_EVENT_HEAD
        FWS_EVENT_HEAD_LIMIT
        FWS_EVENT_BODY
        FWS_EVENT_MESSAGE
        FWS_EVENT_UNDECIDED
    ctypedef struct fws_event:
        fws_conn *conn
        const uint8_t *data
        size_t n
        uint8_t kind
        uint8_t opcode
    ctypedef struct fws_slot:
        fws_conn *conn
    ctypedef struct fws_counters:
        uint64_t accepted
        uint64_t refused
        uint64_t accept_failures
        uint64_t sends
        uint64_t send_failures
        uint64_t would_block
        uint64_t passes
        uint64_t handshake_timeouts
        uint64_t slow_closed
        uint64_t protocol_errors
        uint64_t staged_refused
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
    ctypedef struct fws_engine:
        const fws_sys *sys
        fws_options options
        int epoll
        uint64_t now
        uint64_t source_at
        fws_slot *slots
        uint32_t n_slots
        uint32_t live
        fws_conn *first_dead
        uint32_t n_events
        fws_event *events
        fws_source source
        fws_meter *meter
        fws_counters counters
    fws_engine *fws_engine_new(const fws_options *options, const fws_sys *sys)
    void fws_engine_free(fws_engine *engine)
    int fws_engine_listen(fws_engine *engine, int fd)
    void fws_engine_unlisten(fws_engine *engine, int fd)
    fws_conn *fws_engine_attach(fws_engine *engine, int fd, fws_role role, const uint8_t *data,
                                size_t n)
    uint16_t fws_conn_remote(const fws_conn *conn, char *host, size_t n)
    fws_topic *fws_engine_topic(fws_engine *engine, const fws_topic_options *options)
    void fws_conn_kill(fws_engine *engine, fws_conn *conn, uint16_t code)
    void fws_conn_cut_off(fws_engine *engine, fws_conn *conn)
    void fws_engine_reap(fws_engine *engine)
    int fws_engine_harvest(fws_engine *engine, int timeout_ms)
    bint fws_engine_more(const fws_engine *engine)
    int fws_conn_respond(fws_engine *engine, fws_conn *conn, const uint8_t *data, size_t n,
                         bint keep_alive)
    int fws_conn_upgrade(fws_engine *engine, fws_conn *conn, const uint8_t *data, size_t n)
    int fws_conn_expect_body(fws_engine *engine, fws_conn *conn, uint32_t body_n,
                             const uint8_t *data, size_t n)
    int fws_conn_deflate(fws_engine *engine, fws_conn *conn, unsigned window_bits)
    void fws_conn_credit(fws_engine *engine, fws_conn *conn, uint16_t messages)
    int fws_conn_meter(fws_engine *engine, fws_conn *conn)
    void fws_engine_flush(fws_engine *engine, uint64_t budget_ns)
    void fws_engine_set_rate(fws_engine *engine, uint64_t rate, bint max)
    uint64_t fws_engine_load(const fws_engine *engine)
    int fws_conn_push_frame(fws_engine *engine, fws_conn *conn, uint8_t opcode, uint64_t eseq,
                            const uint8_t *data, size_t n)
    void fws_conn_acknowledge(fws_engine *engine, fws_conn *conn)
    enum fws_command_kind:
        FWS_CMD_SUBSCRIBE
        FWS_CMD_UNSUBSCRIBE
        FWS_CMD_PUBLISH
        FWS_CMD_SEND
        FWS_CMD_CLOSE
    ctypedef struct fws_command:
        uint8_t kind
        uint8_t opcode
        uint16_t code
        uint64_t conn
        fws_topic *topic
        const uint8_t *data
        size_t n
    int fws_engine_command(fws_engine *engine, const fws_command *command)
    bint fws_engine_foreign(const fws_engine *engine)
