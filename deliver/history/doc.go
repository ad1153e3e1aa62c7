// Package history tells what became of deliveries: the ledger in Postgres and the stream ATTEMPTS come in, and lists, logs,
// counts, live tails and an audit's books go out.
//
// Routes serves the operations of deliveries, those that make one again, sooner or not at all included: these change the
// ledger through package ledger. Attempts are shown with their request, which is not stored: it is made again of the event and of
// the subscription's revision, without credentials. A Reader is the SQL of the lists, a Log the newest attempts of a
// subscription, a Tail shows outcomes as they happen, Counts tell other packages what became of an event, and Books are read
// and mended by audits.
//
// Each list is bounded per page by rows that it examines, not only by rows that it returns. A Tail is bounded by readers and
// bytes, and tells a reader that fell behind how much it missed.
//
// While Postgres is away, reading answers 503. Nothing here is written that a restart could lose. Tail.Run ends with its
// context, and with it the connections of its readers.
package history
