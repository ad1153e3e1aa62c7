// Package subscriptions is who wants which events: the model, its store in Postgres, its HTTP API, and the
// Directory, which knows all of it in memory and finds an event's subscriptions.
//
// In come changes: over HTTP (Routes), from the dialects, and from the stages (Disable). Each is judged in full on
// save (validate.go, headers.go, filter/, schema.go), so that a stored subscription can be sent to: URLs by the
// deployment's egress policy, headers, schedules, filters by their cost. Event types are kept beside
// the subscriptions: what their data looks like, in which versions of a schema, and which scopes a key needs to subscribe to them.
// A schema that refuses what the former one took is refused (breaking.go, schema_narrow.go). The catalog describes the types as
// webhooks, to generate receivers from.
//
// Out go subscriptions. Directory.Match gives those that receive an event: tenant and event type through an
// index of exact types and a tree of patterns, then the resource id, then the type's own scopes, changed
// attributes and the filter. Directory.Explain says the same step by step, from the same code. Directory.Get gives
// one with its secrets, Directory.EventType a type for those who judge data.
//
// It promises that Directory.Fresh returns once every change that had been committed before the call is known: each
// change takes the next revision in the statement that makes it, and waits there for the one before it, so that
// revisions become visible in order. One tiny query per group of callers asks for the revision; only what
// changed is read. Changes of a subscription need its current revision (ErrChanged), deletions leave a tombstone until
// every Directory can have seen it. Secrets, auth and client certificate are sealed and bound to their row; a row that does not open is told by
// Subscription.Err and concerns nobody else. A filter that was accepted cannot take an event more than a
// bounded number of steps and bytes.
//
// When Postgres is away, changes and Fresh fail with an error that says so, and nothing is matched against a cache that may
// be stale; Get and AtLeast of a known revision go on. When a filter cannot be evaluated for an event, that event does not
// match; it is counted and explained. The package starts no goroutine: Directory.Run, which only keeps the Directory
// warm, ends with its context, and there is nothing to close.
package subscriptions
