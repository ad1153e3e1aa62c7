package deliver

import (
	"net/http"

	"github.com/fanfarehq/fanfare/deliver/throttle"
)

// Reason says in one word why an attempt ended as it did, or why a delivery waits or was given up. The word
// is the metric's label, the API's value and the console's text.
type Reason string

// The reasons that an attempt gives.
const (
	ReasonOK          Reason = "ok"                 // a complete 2xx header
	ReasonRedirect    Reason = "http_3xx"           // never followed
	ReasonClient      Reason = "http_4xx"           // but for 410 and 429
	ReasonServer      Reason = "http_5xx"           //
	ReasonGone        Reason = "gone"               // 410: the subscription is to be disabled
	ReasonRateLimited Reason = throttle.RateLimited // 429, or the subscription's own rate limit
	ReasonTimeout     Reason = "timeout"            // a connection, and no complete answer within the subscription's timeout
	ReasonConnect     Reason = throttle.Connect     // refused, unreachable, or no connection in time
	ReasonTLS         Reason = "tls"                // handshake or certificate
	ReasonDNS         Reason = "dns"                // the name did not resolve, or not in time
	ReasonBlocked     Reason = "blocked"            // the address is not allowed
	ReasonReset       Reason = "reset"              // the connection broke before a complete header
	ReasonProtocol    Reason = "protocol"           // what came is not HTTP, or not framed as HTTP demands
	ReasonConfig      Reason = "config"             // the request cannot be built: URL, header, secret, format
)

// The reasons for which a delivery waits or ends without an attempt.
const (
	ReasonBusy        Reason = throttle.Busy        // no slot was free, or the receiver is slow
	ReasonBreakerOpen Reason = throttle.BreakerOpen // the receiver has been failing
	ReasonPaused      Reason = "paused"
	ReasonRetryAfter  Reason = throttle.RetryAfter // the receiver said when to come back
	ReasonDisabled    Reason = "subscription_disabled"
	ReasonDeleted     Reason = "subscription_deleted"
	ReasonExpired     Reason = "expired"     // the event's bytes are gone
	ReasonKeyBlocked  Reason = "key_blocked" // one before it in its order has not ended
	ReasonCancelled   Reason = "cancelled"   // by request, or the subscription lacks a scope of the event's type; of an attempt: broken off because the worker stops
)

// ReasonFailing is why a subscription was disabled by the failure rule; no delivery ends for it.
const ReasonFailing Reason = "failing"

// Reasons lists every reason, so that each metric series exists before its first count.
func Reasons() []Reason {
	return []Reason{
		ReasonOK, ReasonRedirect, ReasonClient, ReasonServer, ReasonGone, ReasonTimeout, ReasonConnect,
		ReasonTLS, ReasonDNS, ReasonBlocked, ReasonReset, ReasonProtocol, ReasonRateLimited, ReasonBusy,
		ReasonBreakerOpen, ReasonPaused, ReasonRetryAfter, ReasonDisabled, ReasonDeleted, ReasonExpired,
		ReasonKeyBlocked, ReasonConfig, ReasonCancelled,
	}
}

// String returns the word.
func (r Reason) String() string { return string(r) }

// reasonOf classes a status. Final answers are 200 to 599; anything else, 101 included, is no HTTP that
// was asked for.
func reasonOf(status int) Reason {
	switch {
	case status < 200 || status > 599:
		return ReasonProtocol
	case status < 300:
		return ReasonOK
	case status < 400:
		return ReasonRedirect
	case status == http.StatusGone:
		return ReasonGone
	case status == http.StatusTooManyRequests:
		return ReasonRateLimited
	case status < 500:
		return ReasonClient
	default:
		return ReasonServer
	}
}
