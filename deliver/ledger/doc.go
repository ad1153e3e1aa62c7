// Package ledger holds what Postgres knows of deliveries: outcomes come in from the stream ATTEMPTS, and rows of deliveries,
// deferrals and attempts go out, with leases of the deferrals that are due.
//
// A worker writes outcomes with a Journal, many in one message. A Recorder takes them into Postgres, many in one
// transaction. A Ledger is all SQL that writes: leases (claim, hand off, give back, renew), what follows a change of a
// subscription, later generations (Repeater), and the order by key (Turns, and a Turner in each worker). An Eraser
// removes contents and leaves the counts. Package history reads beside it.
//
// It promises that an outcome is recorded once, in whatever order and however often it comes: each lease and each outcome
// of a delivery takes the next step, and a record of a step that has passed is void. A record that Postgres refuses
// goes to quarantine, and a stand-in of it is recorded.
//
// While Postgres is away, outcomes wait in ATTEMPTS, which nothing leaves before it is recorded. While NATS is away they wait
// in the worker's memory, and leases are kept. To stop, Run's context ends: messages in hand are recorded or handed back.
package ledger
