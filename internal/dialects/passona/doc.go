// Package passona serves Passona's webhooks API over Fanfare's subscriptions, so that clients written against
// it need no change: send the traffic of passona.co.uk below /api/2.0/webhooks to Fanfare (with X-Forwarded-Host and
// X-Forwarded-Proto, or the Host as it was, for the links in answers), and give each team a key with the scopes
// subscriptions:read and subscriptions:write. Passona's other paths, such as /api/2.0/keywords, stay where they are.
//
// In come JSON calls under /api/2.0/webhooks, with or without a slash at the end, or two.
//
// Out go Passona's JSON shapes in Laravel's manner (pages with links and meta, errors by field) and Passona's
// webhooks: the data as it was published, with the headers that the webhook holds, unsigned.
//
// Promises: a client sees the webhooks of its team that were made through this API, and no others. They have
// no event types: an event reaches them by naming them as targets ("targets" of a native event, what a keyword holds as
// webhooks_uuid). For publishers that name none, Config has an event type that new webhooks subscribe to. A delivery
// that failed is never tried again by itself; the native API can send it again.
//
// Failures: if Postgres is away, a call is answered 503 with Retry-After. There is nothing to stop: a call
// ends with its request.
package passona
