// Package babelfor serves the webhook API of Babel Licensing (babelfor.net) over Fanfare's subscriptions, so
// that clients written against it need no change: send the traffic below /v1/webhooks to Fanfare, and give each service a key
// with the scopes subscriptions:read and subscriptions:write, deliveries:read and deliveries:write for the log, and events:read
// for the event types.
//
// In come JSON calls of whatever content type, with the key in x-api-key or as a bearer. Lists filter, sort and select in
// the spelling of System.Linq.Dynamic.Core (IsActive == true && Name.Contains("x")) or of OData (isActive eq true and
// contains(name,'x')), and take, skip and include=webhookEvents.
//
// Out go the vendor's envelopes ({..., "success", "message"}, errors included, always 200 for a success) and its webhooks:
// the data as it was published, with the subscription's headers, signed in X-Webhook-Signature (sha256= and lower-case hex
// HMAC-SHA256 of the body) where there is a secret, with the type in X-Webhook-Event and the event's id in
// X-Webhook-Id. The names of these headers are not in any public document of the vendor: Config changes them.
//
// Promises: a client sees the subscriptions of its service that were made through this API, and no others;
// a secret is shown. A failed delivery is tried again maxRetryCount times, five minutes apart (a fifth more at most). The log
// has a row for each delivery, whose id is the delivery's number, in 31 bits: the newest 10,000 of a subscription, of which a
// filter by payload or response examines 1,000, and include shows 100; payloads and responses beyond 16 MiB in one answer are
// null, and so are payloads that are gone. Deleting a row hides it here, keeps it in the ledger, and cancels the delivery if it
// is pending. A test is a delivery like any other, also to a subscription that is not active or is paused
// natively. Where event types are strict, a subscription names registered ones. Where they are open, event-types lists, after
// the registered ones and without a description, those of the tenant's events of the last 7 days (of its newest 10,000 events) and
// those that its newest 1,000 subscriptions name: 1,000 at most.
//
// Failures: if Postgres or the broker is away, a call is answered 503 with Retry-After; so is a test whose delivery has not
// begun within 5 seconds, which is sent all the same. There is nothing to stop: a call ends with its request.
package babelfor
