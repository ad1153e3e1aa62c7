// Package ingest takes events in over HTTP and puts them on disk.
//
// In come events at POST /v1/events: one JSON object, an array, newline-delimited JSON, or CloudEvents 1.0
// (structured, batch, binary); and from within, by Publish. They are read strictly, and an event's data is kept to
// the byte. Each is held against the rules that fan-out has for events straight from NATS. Out go messages to the
// stream EVENTS: see package fanout. POST /v1/subscriptions/{id}/test sends one event to one subscription.
//
// NATS clients of the machine without credentials come in by Local, which stores their messages unchecked, tenants in turn;
// fan-out judges them.
//
// 202 is answered once the events are on disk, and never before. An id that the caller gives makes publishing
// idempotent for 24 hours: the key is written to Postgres before the event is published, with a hash of the content,
// so concurrent repeats meet there. The same content again is a duplicate; other content is refused with 409. Events
// of an array are judged each on its own merit and stored in their order. Any other answer than 202 means that it is
// unknown whether the event was stored: send it again, with the same id.
//
// If the broker or Postgres is away or full, the answer is 503 with Retry-After within the time limit, also if only a
// part of an array could be stored; it then says what became of each. The memory of the requests under way is
// bounded; requests beyond it wait, and those beyond a number are answered 503 at once.
//
// A request's work is its own, but for the commits of groups that it joined: one that does not end in time is left to
// end by itself, within the bounds of the broker's and the database's client. Run removes idempotency keys that are older
// than two days, and ends when its context does.
package ingest
