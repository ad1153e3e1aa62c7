package fanout

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// Recorded is an event as the ledger has it.
type Recorded struct {
	UID        uuid.UUID
	Tenant     string
	ID         string
	Type       string
	Time       time.Time
	AcceptedAt time.Time
	Seq        uint64
	Matched    int
	Erased     bool           // its bytes are not in the stream any more, by intent
	Targeted   sql.Null[bool] // see Event.targeted; null in rows of former versions
	// Revision is that of the subscriptions that it was matched against; 0 in rows of former versions.
	Revision int64
	// SchemaValid says whether the data fits the schema of its type; null where that was not judged.
	SchemaValid *bool
}

// filter selects the rows of a list; zero fields do not bind.
type filter struct {
	tenant       string
	eventType    string
	objects      []string // with resources, within the tenant
	resources    []string
	since, until time.Time // since inclusive, until exclusive
	after        uuid.UUID
	asc          bool
	limit        int
}

// where is the condition of a list whose key is a UUIDv7 of the time in column at. The bounds on the key let Postgres leave
// out the partitions of other days; those on the time are exact.
func (f filter) where(key, at string) *postgres.Where {
	w := &postgres.Where{}
	if f.tenant != "" {
		w.And("tenant = ?", f.tenant)
	}
	f.bound(w, key)
	if !f.since.IsZero() {
		w.And(at+" >= ?", f.since)
	}
	if !f.until.IsZero() {
		w.And(at+" < ?", f.until)
	}
	return w
}

// bound adds the bounds on the key.
func (f filter) bound(w *postgres.Where, key string) {
	if !f.since.IsZero() {
		w.And(key+" >= ?", event.FirstUID(f.since))
	}
	if !f.until.IsZero() {
		w.And(key+" < ?", event.FirstUID(f.until.Add(time.Millisecond)))
	}
	if _, beyond := postgres.Direction(f.asc); f.after != uuid.Nil {
		w.And(key+" "+beyond+" ?", f.after)
	}
}

// page is the order of the key and the limit.
func (f filter) page(key string) string {
	order, _ := postgres.Direction(f.asc)
	return " ORDER BY " + key + " " + order + " LIMIT " + strconv.Itoa(f.limit)
}

// RecordedColumns are the columns of the table events that ScanRecorded reads.
const RecordedColumns = "uid, tenant, id, type, time, accepted_at, seq, matched, erased_at IS NOT NULL, targeted, coalesce(revision, 0) AS revision, schema_valid"

// ScanRecorded reads RecordedColumns of a row.
func ScanRecorded(row interface{ Scan(...any) error }) (Recorded, error) {
	var r Recorded
	var seq int64
	err := row.Scan(&r.UID, &r.Tenant, &r.ID, &r.Type, &r.Time, &r.AcceptedAt, &seq, &r.Matched, &r.Erased, &r.Targeted, &r.Revision, &r.SchemaValid)
	r.Seq, r.Time, r.AcceptedAt = uint64(seq), r.Time.UTC(), r.AcceptedAt.UTC()
	return r, err
}

// examined is how many rows a page looks at for those of a type, which no index finds: some milliseconds of Postgres.
// What is rare is then found over several pages.
const examined = 5000

// spare is for refs whose event is not in the ledger yet.
const spare = 100

// source is what a page looks at: all events, or those that name one of the first refs. Its arguments follow those of w.
func (f filter) source(refs [][]uuid.UUID, w *postgres.Where) (source string, args *postgres.Where) {
	if len(refs) == 0 {
		return "events", w.After()
	}
	named := w.After()
	named.And("r.ref = o.ref")
	f.bound(named, "uid")
	order, _ := postgres.Direction(f.asc)
	return fmt.Sprintf(`(SELECT e.* FROM (
			SELECT DISTINCT uid FROM unnest(%[1]s::uuid[]) AS o (ref) CROSS JOIN LATERAL (
				SELECT uid FROM event_refs r WHERE %[2]s ORDER BY uid %[3]s LIMIT %[4]d
			) x ORDER BY uid %[3]s LIMIT %[4]d
		) named JOIN events e ON e.uid = named.uid) events`, named.Arg(refArray(refs[0])), named, order, examined+spare), named.After()
}

func refArray(refs []uuid.UUID) any {
	c := postgres.Columns(1, len(refs))
	for _, ref := range refs {
		c[0].UUID(ref)
	}
	return c[0].Arg()
}

// list returns events of the ledger. Where it stopped before the end, since it had examined all that a page may, it
// says at which key.
func (l *Ledger) list(ctx context.Context, f filter) (list []Recorded, cut uuid.UUID, err error) {
	limit, refs := f.limit, event.Refs(f.tenant, f.objects, f.resources)
	if f.eventType != "" || len(refs) > 0 {
		f.limit = examined
	}
	walked := f.where("uid", "accepted_at")
	source, asked := f.source(refs, walked)
	if f.eventType != "" {
		asked.And("type = ?", f.eventType)
	}
	for _, more := range refs[min(1, len(refs)):] {
		asked.And("EXISTS (SELECT FROM event_refs r WHERE r.uid = e.uid AND r.ref = ANY (?::uuid[]))", refArray(more))
	}
	order, _ := postgres.Direction(f.asc)
	// The last row that is examined is returned even if it is of another type, and says where the page stopped.
	rows, err := l.db.QueryContext(ctx, fmt.Sprintf(`
		SELECT %[1]s, %[2]s AS asked, nth FROM (SELECT *, row_number() OVER (ORDER BY uid %[3]s) AS nth FROM %[7]s WHERE %[4]s%[8]s) e
		WHERE (%[2]s) OR nth = %[5]d ORDER BY uid %[3]s LIMIT %[6]d`, RecordedColumns, asked, order, walked, examined, limit, source, f.page("uid")), asked.Args()...)
	err = postgres.Each(rows, err, func() error {
		var asked bool
		var nth int
		r, err := ScanRecorded(Wider{rows, []any{&asked, &nth}})
		if err != nil {
			return err
		}
		if asked {
			list = append(list, r)
		}
		if nth == examined {
			cut = r.UID
		}
		return nil
	})
	if err != nil {
		return nil, uuid.Nil, fmt.Errorf("list events: %w", err)
	}
	return list, cut, nil
}

// Wider scans a row that has more columns at its end.
type Wider struct {
	Row  interface{ Scan(...any) error }
	More []any
}

// Scan scans the columns and those at the end.
func (w Wider) Scan(dest ...any) error { return w.Row.Scan(append(dest, w.More...)...) }

// errNoEvent says that the ledger has no such event.
var errNoEvent = errors.New("no such event")

// get returns the last event of an id: ids may be used again after a day. An empty tenant is any.
func (l *Ledger) get(ctx context.Context, tenant, id string) (Recorded, error) {
	condition, args := " WHERE id = $1", []any{id}
	if tenant != "" {
		condition, args = " WHERE tenant = $2 AND id = $1", append(args, tenant)
	}
	r, err := ScanRecorded(l.db.QueryRowContext(ctx,
		"SELECT "+RecordedColumns+" FROM events"+condition+" ORDER BY uid DESC LIMIT 1", args...))
	if errors.Is(err, sql.ErrNoRows) {
		return Recorded{}, errNoEvent
	}
	if err != nil {
		return Recorded{}, fmt.Errorf("get event: %w", err)
	}
	return r, nil
}

// listQuarantined returns messages that are no valid event.
func (l *Ledger) listQuarantined(ctx context.Context, f filter) ([]quarantined, error) {
	w := f.where("id", "received_at")
	rows, err := l.db.QueryContext(ctx,
		"SELECT id, tenant, stream_seq, subject, received_at, reason, detail, data, sealed FROM quarantine WHERE "+w.String()+f.page("id"), w.Args()...)
	list, err := postgres.Collect(rows, err, func(rows *sql.Rows) (quarantined, error) {
		var q quarantined
		var seq int64
		if err := rows.Scan(&q.id, &q.tenant, &seq, &q.subject, &q.receivedAt, &q.reason, &q.detail, &q.data, &q.sealed); err != nil {
			return q, err
		}
		if err := l.open(ctx, &q); err != nil {
			return q, err
		}
		q.seq, q.receivedAt = uint64(seq), q.receivedAt.UTC()
		return q, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list quarantine: %w", err)
	}
	return list, nil
}
