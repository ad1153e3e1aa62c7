package outcome

import "github.com/danielgtaylor/huma/v2"

// Described is a reason in plain words.
type Described struct {
	Reason      string
	Description string
	Advice      string // what a subscription's owner or an operator can do
}

// Describe describes every reason of a delivery, in the order of Reasons.
func Describe() []Described {
	list := make([]Described, 0, len(described))
	for _, r := range Reasons() {
		d := described[r]
		list = append(list, Described{Reason: string(r), Description: d[0], Advice: d[1]})
	}
	return list
}

// described holds a description and an advice for each reason.
var described = map[Reason][2]string{
	ReasonOK:          {"The endpoint answered 2xx.", "Nothing to do."},
	ReasonRedirect:    {"The endpoint answered with a redirect, which is never followed.", "Set the subscription's URL to the redirect's target."},
	ReasonClient:      {"The endpoint answered 4xx, other than 410 and 429.", "Check the URL, the authentication and what the endpoint expects; then retry."},
	ReasonServer:      {"The endpoint answered 5xx.", "Look into the endpoint's log. Deliveries are retried by the schedule."},
	ReasonGone:        {"The endpoint answered 410, which disables the subscription.", "Enable the subscription if the endpoint is to receive again; then retry."},
	ReasonTimeout:     {"The endpoint was connected but sent no complete answer within the subscription's timeout.", "Answer first and work afterwards, or raise the timeout."},
	ReasonConnect:     {"No connection: refused, unreachable, or not made in time.", "Check that the endpoint runs and that its firewall allows this installation."},
	ReasonTLS:         {"The TLS handshake failed, mostly over the endpoint's certificate.", "Check the certificate: its names, its dates and its chain."},
	ReasonDNS:         {"The host's name did not resolve.", "Check the URL's host and its DNS records."},
	ReasonBlocked:     {"The host's address is not allowed: a private or reserved one.", "Use a public address, or allow the range in FANFARE_ALLOW_PRIVATE_CIDRS."},
	ReasonReset:       {"The connection broke before a complete answer.", "Look into the endpoint's or its proxy's log."},
	ReasonProtocol:    {"The answer was not valid HTTP.", "Check that the URL's port serves HTTP, and the endpoint's framing of answers."},
	ReasonRateLimited: {"The endpoint answered 429, or the subscription's own rate limit was reached.", "Nothing to do, unless the backlog grows: then raise the limit."},
	ReasonBusy:        {"The delivery waits for a free place: all of the subscription's were taken, the endpoint is slow, or a retry or replay was asked for and has not begun.", "Nothing to do, unless the backlog grows: then raise max_in_flight or speed the endpoint up."},
	ReasonBreakerOpen: {"The endpoint has been failing, and only single attempts probe it.", "Repair the endpoint. Deliveries go on once a probe succeeds."},
	ReasonPaused:      {"The subscription is paused.", "Resume the subscription."},
	ReasonRetryAfter:  {"The endpoint asked with Retry-After to come back later.", "Nothing to do."},
	ReasonDisabled:    {"The subscription was disabled before the delivery could be made.", "Enable the subscription, then retry or replay."},
	ReasonDeleted:     {"The subscription was deleted before the delivery could be made.", "Nothing to do."},
	ReasonExpired:     {"The event's data is no longer kept.", "Publish the event again under a new id."},
	ReasonKeyBlocked:  {"An earlier delivery of the same ordering key has not ended.", "Retry or cancel the delivery that it waits for; see blocked_by."},
	ReasonKey:         {"The worker's key ring does not open the subscription's secrets.", "Check FANFARE_SECRET_KEYS of the workers."},
	ReasonConfig:      {"The request could not be built from the subscription's settings.", "Check the subscription's URL, headers, secret and format."},
	ReasonCancelled:   {"The delivery was cancelled by request, or the subscription lacks a scope of the event's type.", "Retry it if it is to be made after all."},
}

// schemaName is the reason's name in the OpenAPI document.
const schemaName = "DeliveryReason"

// Schema documents the reason: a closed set of words.
func (Reason) Schema(r huma.Registry) *huma.Schema {
	if _, ok := r.Map()[schemaName]; !ok {
		s := &huma.Schema{Type: huma.TypeString, Description: "Why a delivery waits or how it ended:\n"}
		for _, d := range Describe() {
			s.Enum = append(s.Enum, d.Reason)
			s.Description += "- `" + d.Reason + "`: " + d.Description + "\n"
		}
		s.PrecomputeMessages()
		r.Map()[schemaName] = s
	}
	return &huma.Schema{Ref: "#/components/schemas/" + schemaName}
}
