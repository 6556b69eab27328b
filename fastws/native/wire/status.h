/* What every function of the core may answer with. Layer 0: knows nothing.
 *
 * 0 is success, a positive number means what the function's own contract says,
 * a negative one is one of these. fws_close_code() is the only place where a
 * status becomes an RFC 6455 close code.
 */
#ifndef FWS_STATUS_H
#define FWS_STATUS_H

#include <stdint.h>

enum fws_status {
    FWS_OK = 0,
    FWS_E_NOMEM = -1,     /* an allocation failed */
    FWS_E_PROTOCOL = -2,  /* the peer broke RFC 6455 */
    FWS_E_UTF8 = -3,      /* text that is not UTF-8 */
    FWS_E_TOO_BIG = -4,   /* a message past max_message_size */
    FWS_E_SLOW = -5,      /* a subscriber past its topic's limit */
    FWS_E_FULL = -6,      /* a lossless topic whose slowest subscriber is at the cap */
    FWS_E_CLOSED = -7,    /* the connection is closing, closed or unknown */
    FWS_E_INVALID = -8,   /* an argument out of its range */
    FWS_E_SYSTEM = -9,    /* a system call failed; errno says how */
    FWS_E_DATA = -10,     /* a compressed message that cannot be inflated */
    FWS_E_MANY = -12,     /* a subscription past max_subscriptions */
    FWS_E_FRAGMENTS = -11 /* a message past max_fragments */
};

/* The close code that tells the peer of a negative status (RFC 6455 7.4.1):
 * 1002, 1007, 1009, 1013, else 1011. */
static inline uint16_t fws_close_code(int status)
{
    switch (status) {
    case FWS_E_PROTOCOL:
        return 1002;
    case FWS_E_UTF8:
    case FWS_E_DATA:
        return 1007;
    case FWS_E_TOO_BIG:
    case FWS_E_FRAGMENTS:
        return 1009;
    case FWS_E_SLOW:
        return 1013;
    default:
        return 1011;
    }
}

#endif
