// Package webhook makes one attempt: an event and a subscription come in, one signed POST goes out to the receiver, and a
// Result says how it ended.
//
// A Poster prepares the request of each subscription once (a plan: route, fixed headers, signing keys, token endpoint,
// client certificate), renders the event in the subscription's format, signs it, sends it through the guarded client of
// internal/egress, reads a bounded part of the response, and classifies the end by an outcome.Reason. Bodies keeps the
// rendered bytes for all attempts of an event. Requests shows requests of the past: their bytes, and their headers without
// what authenticates them.
//
// It promises that all attempts of a delivery carry the same bytes, that Send returns within the subscription's timeout
// whatever the receiver does, that no redirect is followed, that a request which the receiver may have seen is never
// resent, and that no secret is in an error or in a stored response. It does not decide whether a delivery is retried:
// that is the verdict of package deliver.
//
// If a token endpoint fails, nothing is sent to the receiver and Result.Elsewhere names the endpoint's host. If the
// context ends, the reason is ReasonCancelled and the event may have arrived.
//
// There is nothing to stop: an attempt ends with its context. Close ends connections kept for client certificates.
package webhook
