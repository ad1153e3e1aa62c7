package fanout

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// recorded is an event as the ledger has it.
type recorded struct {
	uid        uuid.UUID
	tenant     string
	id         string
	eventType  string
	time       time.Time
	acceptedAt time.Time
	seq        uint64
	matched    int
	erased     bool // its bytes are not in the stream any more, by intent
}

// filter says which rows of a list are asked for; what is zero does not bind.
type filter struct {
	tenant       string
	eventType    string
	since, until time.Time // since inclusive, until exclusive
	after        uuid.UUID
	asc          bool
	limit        int
}

// where builds the condition, order and limit of a list whose key is a UUIDv7 of the time in column at. The bounds
// on the key let Postgres leave out the partitions of other days; those on the time are exact.
func (f filter) where(key, at string) (clause string, args []any) {
	var parts []string
	add := func(condition string, arg any) {
		args = append(args, arg)
		parts = append(parts, strings.ReplaceAll(condition, "?", "$"+strconv.Itoa(len(args))))
	}
	if f.tenant != "" {
		add("tenant = ?", f.tenant)
	}
	if f.eventType != "" {
		add("type = ?", f.eventType)
	}
	if !f.since.IsZero() {
		add(key+" >= ?", firstUID(f.since))
		add(at+" >= ?", f.since)
	}
	if !f.until.IsZero() {
		add(key+" < ?", firstUID(f.until.Add(time.Millisecond)))
		add(at+" < ?", f.until)
	}
	order, beyond := " DESC", " < ?"
	if f.asc {
		order, beyond = " ASC", " > ?"
	}
	if f.after != uuid.Nil {
		add(key+beyond, f.after)
	}
	if len(parts) > 0 {
		clause = " WHERE " + strings.Join(parts, " AND ")
	}
	return clause + " ORDER BY " + key + order + " LIMIT " + strconv.Itoa(f.limit), args
}

const recordedColumns = "uid, tenant, id, type, time, accepted_at, seq, matched, erased_at IS NOT NULL"

func scanRecorded(row interface{ Scan(...any) error }) (recorded, error) {
	var r recorded
	var seq int64
	err := row.Scan(&r.uid, &r.tenant, &r.id, &r.eventType, &r.time, &r.acceptedAt, &seq, &r.matched, &r.erased)
	r.seq, r.time, r.acceptedAt = uint64(seq), r.time.UTC(), r.acceptedAt.UTC()
	return r, err
}

// list returns events of the ledger.
func (l *Ledger) list(ctx context.Context, f filter) ([]recorded, error) {
	clause, args := f.where("uid", "accepted_at")
	rows, err := l.db.QueryContext(ctx, "SELECT "+recordedColumns+" FROM events"+clause, args...)
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	defer rows.Close()
	var list []recorded
	for rows.Next() {
		r, err := scanRecorded(rows)
		if err != nil {
			return nil, fmt.Errorf("list events: %w", err)
		}
		list = append(list, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	return list, nil
}

// errNoEvent says that the ledger has no such event.
var errNoEvent = errors.New("no such event")

// get returns the last event of an id: ids may be used again after a day. An empty tenant is any.
func (l *Ledger) get(ctx context.Context, tenant, id string) (recorded, error) {
	condition, args := " WHERE id = $1", []any{id}
	if tenant != "" {
		condition, args = " WHERE tenant = $2 AND id = $1", append(args, tenant)
	}
	r, err := scanRecorded(l.db.QueryRowContext(ctx,
		"SELECT "+recordedColumns+" FROM events"+condition+" ORDER BY uid DESC LIMIT 1", args...))
	if errors.Is(err, sql.ErrNoRows) {
		return recorded{}, errNoEvent
	}
	if err != nil {
		return recorded{}, fmt.Errorf("get event: %w", err)
	}
	return r, nil
}

// listQuarantined returns messages that are no valid event.
func (l *Ledger) listQuarantined(ctx context.Context, f filter) ([]quarantined, error) {
	clause, args := f.where("id", "received_at")
	rows, err := l.db.QueryContext(ctx,
		"SELECT id, tenant, stream_seq, subject, received_at, reason, detail, data FROM quarantine"+clause, args...)
	if err != nil {
		return nil, fmt.Errorf("list quarantine: %w", err)
	}
	defer rows.Close()
	var list []quarantined
	for rows.Next() {
		var q quarantined
		var seq int64
		if err := rows.Scan(&q.id, &q.tenant, &seq, &q.subject, &q.receivedAt, &q.reason, &q.detail, &q.data); err != nil {
			return nil, fmt.Errorf("list quarantine: %w", err)
		}
		q.seq, q.receivedAt = uint64(seq), q.receivedAt.UTC()
		list = append(list, q)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list quarantine: %w", err)
	}
	return list, nil
}
