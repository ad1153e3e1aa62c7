// Package leat serves the webhook-subscription API of Leat (formerly Piggy) over Fanfare's subscriptions, so
// that clients written against it need no change: send the traffic of api.piggy.eu (or api.piggy.nl) below
// /api/v3/oauth, /api/webhook-subscriptions and /oauth to Fanfare, and give each account a key with the scopes
// subscriptions:read and subscriptions:write.
//
// In come the calls of Leat's clients: JSON and PHP-style forms (attributes[]=email, attributes[0]=email), under
// /api/v3/oauth/clients/webhook-subscriptions and the two spellings of its documentation's template. Clients that begin with
// /oauth/token send the whole key as client_secret; the vendor's SDK holds client_id in an int, so any number is taken for it,
// beside the key's id.
//
// Out go Leat's JSON shapes (dates in whole seconds with +00:00, an empty meta list, integer error codes in
// every failure) and Leat's webhooks: {"type","data"}, signed in X-Piggy-Signature (lower-case hex HMAC-SHA256 of the body)
// where there is a secret, with the type in X-Piggy-Event. Publish native events with Leat's types; Config offers more
// types than the thirteen that the vendor documents.
//
// Promises: a client sees the subscriptions of its account that were made through this API, and no others.
// event_type and secret are fixed at creation; a client that sends them later is not refused, and changes nothing.
// The secret is never shown. A contact_updated subscription matches by changed attributes, none meaning any, and an update
// must name at least one; of other types attributes are kept and shown as properties, and match nothing. An attempt takes 10
// seconds at most and is repeated by the default schedule. What is paused or disabled natively is INACTIVE. Every failure
// is Leat's JSON, also of unknown routes: 1003 (422) for input, 80300 (404) for a subscription, else the HTTP status.
//
// Failures: if Postgres is away, a call is answered 500, because Leat's clients take a 503 for announced
// maintenance. There is nothing to stop: a call ends with its request.
package leat
