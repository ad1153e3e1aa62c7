package fanout

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/group"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
)

// maxKept is how much of a message that is no valid event is kept: enough to see what it is.
const maxKept = 4 << 10

// quarantined is a message that is no valid event.
type quarantined struct {
	id         uuid.UUID
	tenant     string
	seq        uint64
	subject    string
	receivedAt time.Time
	reason     event.Reason
	detail     string
	data       []byte
	sealed     bool  // detail and data are sealed
	err        error // of this message alone
}

// newQuarantined makes the kept copy of a message. Its id is the same whenever it is made of this message.
func newQuarantined(w event.Wire, r *event.Refusal) *quarantined {
	id, tenant := QuarantineKey(w)
	return &quarantined{
		id: id, tenant: tenant, seq: w.Seq, subject: plain(w.Subject), receivedAt: w.At.Truncate(time.Microsecond),
		reason: r.Reason, detail: plain(r.Error()), data: w.Data[:min(len(w.Data), maxKept)],
	}
}

// plain makes a text that Postgres can hold, and bounds it.
func plain(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s[:min(len(s), maxKept)], "\x00", "\ufffd"), "\ufffd")
}

// QuarantineKey is the id of a quarantined message, the same whenever it is computed, and its tenant, if it has one.
func QuarantineKey(w event.Wire) (id uuid.UUID, tenant string) {
	tenant, _, _ = event.SplitSubject(w.Subject)
	if event.CheckTenant(tenant) != nil {
		tenant = ""
	}
	return event.UID("", fmt.Sprintf("quarantine %d", w.Seq), w.At), tenant
}

// Quarantine keeps a message that is not a valid event, so that its publisher can find out.
func (l *Ledger) Quarantine(ctx context.Context, w event.Wire, refusal *event.Refusal) error {
	q := newQuarantined(w, refusal)
	err := l.seal(ctx, q)
	if err == nil {
		err = l.bad.Do(ctx, q)
	}
	if err == nil {
		err = q.err
	}
	if err != nil {
		return fmt.Errorf("quarantine message %d: %w", q.seq, err)
	}
	return nil
}

// seal seals the kept copy of a message. It may be repeated after an error.
func (l *Ledger) seal(ctx context.Context, q *quarantined) error {
	if q.sealed {
		return nil
	}
	m := tenantkeys.Message{Tenant: q.tenant, ID: q.id, Detail: q.detail, Data: q.data}
	if err := l.keys.SealMessage(ctx, &m); err != nil {
		return err
	}
	q.detail, q.data, q.sealed = m.Detail, m.Data, m.Sealed
	return nil
}

// open opens what seal sealed.
func (l *Ledger) open(ctx context.Context, q *quarantined) error {
	m := tenantkeys.Message{Tenant: q.tenant, ID: q.id, Detail: q.detail, Data: q.data, Sealed: q.sealed}
	if err := l.keys.OpenMessage(ctx, &m); err != nil {
		return err
	}
	q.detail, q.data, q.sealed = m.Detail, m.Data, m.Sealed
	return nil
}

// quarantineAll writes a group. Should one message be at fault, it alone fails.
func (l *Ledger) quarantineAll(ctx context.Context, items []*quarantined) error {
	write := func(list []*quarantined) error { return l.insertQuarantined(ctx, list) }
	return group.Apart(items, write, refusedBy(ctx), func(q *quarantined, err error) error {
		q.err = err
		return nil
	})
}

func (l *Ledger) insertQuarantined(ctx context.Context, items []*quarantined) error {
	n := len(items)
	ids, tenants, subjects, received := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	reasons, details := make([]string, n), make([]string, n)
	seqs, data, sealed := make([]int64, n), make([][]byte, n), make([]bool, n)
	for i, q := range items {
		ids[i], tenants[i], subjects[i] = q.id.String(), q.tenant, q.subject
		received[i], reasons[i], details[i] = q.receivedAt.UTC().Format(time.RFC3339Nano), string(q.reason), q.detail
		seqs[i], data[i], sealed[i] = int64(q.seq), q.data, q.sealed
	}
	_, err := l.db.ExecContext(ctx, `
		INSERT INTO quarantine (id, tenant, stream_seq, subject, received_at, reason, detail, data, sealed)
		SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::timestamptz[], $6::text[],
			$7::text[], $8::bytea[], $9::bool[])
		ON CONFLICT DO NOTHING`,
		pq.StringArray(ids), pq.StringArray(tenants), pq.Int64Array(seqs), pq.StringArray(subjects),
		pq.StringArray(received), pq.StringArray(reasons), pq.StringArray(details), pq.ByteaArray(data), pq.BoolArray(sealed))
	if err != nil {
		return fmt.Errorf("insert quarantine: %w", err)
	}
	l.trims.count(tenants)
	return nil
}
