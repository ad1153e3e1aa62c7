package outcome

import "net/http"

// Reason says in one word why an attempt ended as it did, or why a delivery waits or was given up. The word
// is the metric's label, the API's value and the console's text.
type Reason string

// The reasons that an attempt gives.
const (
	ReasonOK          Reason = "ok"           // a complete 2xx header
	ReasonRedirect    Reason = "http_3xx"     // never followed
	ReasonClient      Reason = "http_4xx"     // but for 410 and 429
	ReasonServer      Reason = "http_5xx"     //
	ReasonGone        Reason = "gone"         // 410: the subscription is to be disabled
	ReasonRateLimited Reason = "rate_limited" // 429, or the subscription's own rate limit
	ReasonTimeout     Reason = "timeout"      // a connection, and no complete answer within the subscription's timeout
	ReasonConnect     Reason = "connect"      // refused, unreachable, or no connection in time
	ReasonTLS         Reason = "tls"          // handshake or certificate
	ReasonDNS         Reason = "dns"          // the name did not resolve, or not in time
	ReasonBlocked     Reason = "blocked"      // the address is not allowed
	ReasonReset       Reason = "reset"        // the connection broke before a complete header
	ReasonProtocol    Reason = "protocol"     // the answer is not HTTP, or not framed as HTTP demands
	ReasonConfig      Reason = "config"       // the request cannot be built: URL, header, secret, format
)

// The reasons for which a delivery waits or ends without an attempt.
const (
	ReasonBusy        Reason = "busy"         // no slot was free, or the receiver is slow; or it is to be sent again, and was not yet
	ReasonBreakerOpen Reason = "breaker_open" // the receiver has been failing
	ReasonPaused      Reason = "paused"
	ReasonRetryAfter  Reason = "retry_after" // the receiver said when to come back
	ReasonDisabled    Reason = "subscription_disabled"
	ReasonDeleted     Reason = "subscription_deleted"
	ReasonExpired     Reason = "expired"     // the event's bytes are gone
	ReasonKeyBlocked  Reason = "key_blocked" // one before it in its order has not ended
	ReasonKey         Reason = "key"         // this worker's key ring does not open the subscription's secrets
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
		ReasonKeyBlocked, ReasonKey, ReasonConfig, ReasonCancelled,
	}
}

// String returns the word.
func (r Reason) String() string { return string(r) }

// ReasonOf classes a status. Final answers are 200 to 599; any other, 101 included, does not answer
// the request.
func ReasonOf(status int) Reason {
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
