package fanout

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/group"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
)

// IdempotencyWindow is how long an event's id stands for that event: a second event with the id of one that was
// accepted so long ago or less is a repeat. It is a little more than the 24 hours that are promised, and a little
// less than ingest keeps ids, so that what ingest took for new is never taken for a repeat here.
const IdempotencyWindow = 24*time.Hour + 30*time.Minute

// rowsGather is how long rows of events are gathered: their tasks are handed over by then, and only their acknowledgements wait.
const rowsGather = 5 * time.Millisecond

// Ledger is the record of the events that were fanned out: all SQL of fan-out. Everything is written and asked
// in groups, so that a thousand events cost what one does.
type Ledger struct {
	db      *sql.DB
	inserts inserts
	rows    *group.Committer[*row]
	lookups *group.Committer[*lookup]
	bad     *group.Committer[*quarantined]
	trims   *trimmer
	keys    *tenantkeys.Keys // nil: messages are stored in the clear
}

// row is an event in the ledger.
type row struct {
	event   *event.Event
	uid     uuid.UUID
	matched int
	// revision is that of the subscriptions that the event was matched against.
	revision int64
	err      error // of this row alone
}

// lookup asks whether the ledger has an event.
type lookup struct {
	event   *event.Event
	verdict verdict
	err     error // of this lookup alone
}

// verdict is what the ledger says of an event.
type verdict int

const (
	// unknown: no event of this id was fanned out within the window.
	unknown verdict = iota
	// repeat: the same event was.
	repeat
	// conflict: another event of this id was.
	conflict
)

// Entry is an event that was fanned out.
type Entry struct {
	UID        uuid.UUID
	AcceptedAt time.Time
	Seq        uint64
	Hash       [sha256.Size]byte
}

// errOther says that the ledger has another event at the place of one: two of the same id were accepted within the same
// millisecond, and neither was in the ledger yet when the other was looked for.
var errOther = errors.New("the ledger has another event of this id and time")

// NewLedger makes a Ledger.
func NewLedger(db *sql.DB) *Ledger {
	l := &Ledger{db: db, inserts: newInserts(db), trims: newTrimmer()}
	// A group waits for the one before it: a thousand rows are about 20 ms of Postgres.
	limits := group.Limits{Count: 1000, Timeout: 20 * time.Second}
	gathered := limits
	gathered.Gather = rowsGather
	l.rows = group.New(gathered, nil, l.insertRows)
	l.lookups = group.New(limits, nil, l.lookUpAll)
	l.bad = group.New(limits, nil, l.quarantineAll)
	return l
}

// SealWith has quarantined messages sealed with the keys of their tenants. It is called before the Ledger is used.
func (l *Ledger) SealWith(keys *tenantkeys.Keys) { l.keys = keys }

// Record writes that an event was fanned out, with the number of subscriptions that matched and the revision that it was matched
// against. It may be repeated. It fails with errOther where another event is in its place.
func (l *Ledger) Record(ctx context.Context, e *event.Event, matched int, revision int64) error {
	r := &row{event: e, uid: e.UID, matched: matched, revision: revision}
	if err := l.rows.Do(ctx, r); err != nil {
		return fmt.Errorf("record event %s: %w", e.ID, err)
	}
	if r.err != nil {
		return fmt.Errorf("record event %s: %w", e.ID, r.err)
	}
	return nil
}

// judge says whether the event was fanned out before: an event of its tenant and id that was accepted within the
// idempotency window before or after it. After it, as events are not fanned out in the order they came.
func (l *Ledger) judge(ctx context.Context, e *event.Event) (verdict, error) {
	q := &lookup{event: e}
	err := l.lookups.Do(ctx, q)
	if err == nil {
		err = q.err
	}
	if err != nil {
		return unknown, fmt.Errorf("look up event %s: %w", e.ID, err)
	}
	return q.verdict, nil
}

// markOthers fails those rows in whose place the ledger has another event.
func (l *Ledger) markOthers(ctx context.Context, rows []*row) error {
	keys, since := make([]event.Key, len(rows)), rows[0].event.AcceptedAt
	for i, r := range rows {
		keys[i] = r.event.Key()
		if r.event.AcceptedAt.Before(since) {
			since = r.event.AcceptedAt
		}
	}
	known, err := l.Known(ctx, since.Truncate(time.Millisecond), keys)
	if err != nil {
		return err
	}
	for _, r := range rows {
		r.err = nil
		for _, entry := range known[r.event.Key()] {
			if entry.UID == r.uid && !entry.same(r.event) {
				r.err = errOther
			}
		}
	}
	return nil
}

// lookUpAll asks for a group. Should one key be at fault, it alone fails.
func (l *Ledger) lookUpAll(ctx context.Context, lookups []*lookup) error {
	ask := func(list []*lookup) error { return l.lookUp(ctx, list) }
	return group.Apart(lookups, ask, refusedBy(ctx), func(q *lookup, err error) error {
		q.err = err
		return nil
	})
}

// lookUp asks for a group, no further back than the one that looks furthest.
func (l *Ledger) lookUp(ctx context.Context, lookups []*lookup) error {
	keys := make([]event.Key, len(lookups))
	earliest := lookups[0].event.AcceptedAt
	for i, q := range lookups {
		keys[i] = q.event.Key()
		if q.event.AcceptedAt.Before(earliest) {
			earliest = q.event.AcceptedAt
		}
	}
	known, err := l.Known(ctx, earliest.Add(-IdempotencyWindow), keys)
	if err != nil {
		return err
	}
	for _, q := range lookups {
		q.verdict = verdictOf(q.event, known[q.event.Key()])
	}
	return nil
}

// verdictOf judges an event by the entries of its id.
func verdictOf(e *event.Event, entries []Entry) verdict {
	v := unknown
	for _, entry := range entries {
		switch {
		case entry.AcceptedAt.Sub(e.AcceptedAt).Abs() > IdempotencyWindow:
		case entry.same(e):
			return repeat
		default:
			v = conflict
		}
	}
	return v
}

// same reports whether the entry is that of an event: of its very message, or of one with the same content.
func (n *Entry) same(e *event.Event) bool {
	return n.UID == e.UID && n.Seq == e.Seq || n.Hash == e.Hash()
}

// Known returns what the ledger has of the keys, accepted at a time or later.
func (l *Ledger) Known(ctx context.Context, since time.Time, keys []event.Key) (map[event.Key][]Entry, error) {
	tenants, ids := make([]string, len(keys)), make([]string, len(keys))
	for i, k := range keys {
		tenants[i], ids[i] = k.Tenant, k.ID
	}
	// The bound on uid lets Postgres leave out the partitions of other days.
	rows, err := l.db.QueryContext(ctx, `
		SELECT e.tenant, e.id, e.uid, e.accepted_at, e.seq, e.hash
		FROM unnest($1::text[], $2::text[]) AS k(tenant, id)
		JOIN events e ON e.tenant = k.tenant AND e.id = k.id
		WHERE e.uid >= $3 AND e.accepted_at >= $4`,
		pq.StringArray(tenants), pq.StringArray(ids), event.FirstUID(since), since)
	known := make(map[event.Key][]Entry)
	err = postgres.Each(rows, err, func() error {
		var k event.Key
		var entry Entry
		var hash []byte
		if err := rows.Scan(&k.Tenant, &k.ID, &entry.UID, &entry.AcceptedAt, &entry.Seq, &hash); err != nil {
			return err
		}
		copy(entry.Hash[:], hash)
		known[k] = append(known[k], entry)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look up events: %w", err)
	}
	return known, nil
}

// SetErased notes that an event's bytes are gone for good: nothing looks for them any more.
func (l *Ledger) SetErased(ctx context.Context, uid uuid.UUID) error {
	if _, err := l.db.ExecContext(ctx, `
WITH refs AS (DELETE FROM event_refs WHERE uid = $1) UPDATE events SET erased_at = now() WHERE uid = $1 AND erased_at IS NULL`, uid); err != nil {
		return fmt.Errorf("note that event %s is erased: %w", uid, err)
	}
	return nil
}
