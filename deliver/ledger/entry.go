package ledger

import (
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// Entry is a delivery as the ledger has it, pending or ended.
type Entry struct {
	ID           uuid.UUID
	Number       int64
	Tenant       string
	EventUID     uuid.UUID
	EventID      string
	EventType    string
	Seq          uint64
	Subscription uuid.UUID
	Generation   int
	State        string
	Reason       string
	Attempts     int
	Test         bool
	Held         bool
	CreatedAt    time.Time
	DueAt        sql.NullTime // of a pending one
	EndedAt      sql.NullTime
	Status       int             // HTTP status of the last attempt; 0 where none came
	ResolvedAt   sql.NullTime    // of a dead letter that was delivered since
	SupersededBy uuid.NullUUID   // of a dead letter: the later generation that counts instead of it
	Revision     sql.Null[int64] // of the subscription that the last attempt was sent by
}

// The columns of an entry, from each of the two tables.
var (
	PendingEntry = DeliveryNames + `, number, 'pending' AS state, reason,
    attempts, test, held, created_at, due_at, NULL::timestamptz AS ended_at, status, NULL::timestamptz AS resolved_at, NULL::uuid AS superseded_by,
    subscription_revision`
	EndedEntry = DeliveryNames + `, number, state, reason,
    attempts, false AS test, false AS held, created_at, NULL::timestamptz AS due_at, ended_at, status, resolved_at, superseded_by, subscription_revision`
)

// Scanner is a row that can be scanned: *sql.Row or *sql.Rows.
type Scanner interface{ Scan(dest ...any) error }

// ScanEntry reads the columns of a list of deliveries.
func ScanEntry(row Scanner) (e Entry, err error) {
	err = row.Scan(&e.ID, &e.Tenant, &e.EventUID, &e.EventID, &e.EventType, &e.Seq, &e.Subscription, &e.Generation, &e.Number,
		&e.State, &e.Reason, &e.Attempts, &e.Test, &e.Held, &e.CreatedAt, &e.DueAt, &e.EndedAt, &e.Status, &e.ResolvedAt, &e.SupersededBy,
		&e.Revision)
	return e, err
}

// OfEvent asks for those deliveries that are of event $1. Those of the first generation have ids of the event's own
// millisecond, as both ids hold its acceptance, so the primary key finds them; an index by event, which only later
// generations have, would cost a third of all that Postgres does for a delivery.
const OfEvent = `event_uid = $1::uuid AND id >= (left($1::uuid::text, 13) || '-0000-0000-000000000000')::uuid
    AND (generation > 0 OR id <= (left($1::uuid::text, 13) || '-ffff-ffff-ffffffffffff')::uuid)`

// Uuids is an array of ids as a statement takes it.
func Uuids(ids []uuid.UUID) any {
	c := postgres.Columns(1, len(ids))
	for _, id := range ids {
		c[0].UUID(id)
	}
	return c[0].Arg()
}

// ErrNotFound says that the tenant has no such delivery.
var ErrNotFound = errors.New("no such delivery")

// WaitsTurn reports whether a delivery waits for the one before it in the order of its key.
func (e Entry) WaitsTurn() bool {
	return e.State == outcome.Pending && e.Held && e.Reason == string(outcome.ReasonKeyBlocked)
}
