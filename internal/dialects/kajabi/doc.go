// Package kajabi serves Kajabi's hooks API over Fanfare's subscriptions, so that clients written against it
// need no change: send the traffic of api.kajabi.com below /v1/hooks, /api/v1/hooks, /v1/oauth and /api/v1/oauth to
// Fanfare, and give each account a key with the scopes subscriptions:read, subscriptions:write and those of the events that it
// may subscribe to (view:purchases, view:transactions, view:orders, view:form_submissions, view:contacts).
//
// In come JSON:API documents under /v1/hooks and its older path /api/v1/hooks. Clients that begin with /v1/oauth/token
// send the key's id as client_id and the whole key as client_secret; the tokens that they get last two hours, can be
// refreshed for a month and be revoked.
//
// Out go JSON:API documents, errors included, and Kajabi's webhooks: {"id","event","payload":[...]}, unsigned. Publish native
// events with Kajabi's types; resource_ids are what a hook's resource_id looks for, object_id becomes id (else the event's
// own), and data the payload (a list as it is, anything else as a list of one). The *_sample routes show what payloads look like.
//
// Promises: a client sees the hooks of its account that were made through this API, and no others. A hook
// never changes. A key makes hooks only for the events that its scopes allow, through this API and any other: Declare makes the
// six events event types of every tenant, and leaves alone what an operator made of them. Ids are numbers in
// strings. Failed deliveries are repeated by the default schedule.
//
// Failures: if Postgres is away, a call is answered 503 with Retry-After. There is nothing to stop: a call
// ends with its request.
package kajabi
