// Package fanout matches events against subscriptions and hands the matches to deliver.
//
// In come events from the stream EVENTS (subjects events.<tenant>.<type>), one message each: see Event and Inbox.
// Ingest puts them there, and so may any NATS client. Out go tasks to deliver, with at most 64 targets each, and a
// row of the ledger for each event, matched or not. What is no valid event goes to quarantine with its reason.
// An Eraser removes bytes and leaves the counts; a Purger removes settled events to make room. Package replay sends the past again, and package audit compares stream,
// ledger and deliveries: both read beside this package.
//
// An event is matched against the subscriptions as they are after it was read, so that it sees every change that
// was made before it was published. It is acknowledged when its tasks are in their streams and its row is written, in that
// order: what the ledger has was handed over. A broker that dies may lose tasks, which package audit then sends again; where it
// dies before the row is written, the event is handed over once more. A fresh message with an id of Fanfare's own is not looked up. Any
// other is: one that the stream may have handed out before (suspect), and one whose id its publisher chose, as the
// same id within a day is the same event; with other content it goes to quarantine. Two messages of one id in one process take turns. Tasks of a suspect
// event are marked, so that deliver asks its own ledger; without a crash each match is handed over once. There is
// no order between events; what a subscription wants in the order of a key is written as rows that wait for their turn, and
// the consumer's ack floor (Floor) says up to where all of them are there.
//
// If Postgres is away, nothing is matched against stale subscriptions: events wait in progress and go on by
// themselves. So they do if the broker, or room for tasks, is away; a hand-over that failed may be on disk, so its
// repetition is suspect. A row that fails by itself fails alone. An event that makes its handler panic is put away
// after three times. Whoever is stopped for longer than the stream waits asks the ledger before it hands over.
//
// Everything that waits, waits for a group: one query of the revision, one insert, one batch of tasks serve all
// events that came while the one before was under way. So throughput comes from many events in flight, and an idle
// system adds no latency. Run ends when its context does: it takes no more, finishes what it has within
// DrainTimeout and hands the rest back.
package fanout
