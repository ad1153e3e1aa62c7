// Package audit checks that everything balances: the stream EVENTS, the ledger of events and the ledger of deliveries
// of a span of time come in, a report that names each gap goes out, and missing deliveries go to deliver if asked.
//
// An Auditor answers `GET /v1/audit` and `fanfare audit`. A Reconciler audits each event once, two minutes after its
// acceptance, and repairs what it can. A Recovery audits all unsettled events as soon as NATS is back from a death, which
// may have lost tasks and outcomes.
//
// It promises that for each event matched = delivered + dead + cancelled + pending, or that the report names each
// missing or superfluous one. A repair never sends twice: deliver skips what its ledger has.
//
// While Postgres or the broker is away, an audit fails and a Reconciler waits. There is nothing to drain: Run ends with
// its context.
package audit
