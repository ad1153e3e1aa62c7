package fanout

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

const (
	// tenantPatience is how long one round of a tenant's erasure waits for deliveries that are under way.
	tenantPatience = 2 * time.Second
	// eraseChunk is how many events one transaction removes.
	eraseChunk = 2000
	// overwriteMost is how many messages of a tenant are overwritten one by one. Each rewrites a file of the stream, of up to
	// 8 MiB. What is beyond is removed without, and its bytes leave with the files, within FANFARE_EVENTS_MAX_AGE.
	overwriteMost = 5000
)

// EraseTenant removes all of a tenant: its events from the stream, their rows, quarantine, replays and what deliver has. It
// goes on where it was stopped. Attempts in flight may bring something back, so they are waited for and all is removed once
// more; errUnderWay says that it has to be repeated.
func (e *Eraser) EraseTenant(ctx context.Context, tenant string) error {
	if err := e.overwrite(ctx, tenant); err != nil {
		return fmt.Errorf("erase the stream's events of tenant %s: %w", tenant, err)
	}
	if err := e.wipe(ctx, tenant); err != nil {
		return err
	}
	if err := e.settled(ctx, tenantPatience); err != nil {
		return fmt.Errorf("erase events of tenant %s: %w", tenant, err)
	}
	return e.wipe(ctx, tenant)
}

// countMost is how many rows of a table are counted: a count must not take longer than a turn of the erasure.
const countMost = 1_000_000

// CountTenant counts what EraseTenant has to remove, the short tables left out, and of each table no more than countMost rows.
func (e *Eraser) CountTenant(ctx context.Context, tenant string) (int64, error) {
	stream, err := e.JetStream.Stream(ctx, Stream)
	if err != nil {
		return 0, fmt.Errorf("count events of tenant %s: %w", tenant, err)
	}
	info, err := stream.Info(ctx, natsjs.WithSubjectFilter(event.SubjectPrefix+tenant+".>"))
	if err != nil {
		return 0, fmt.Errorf("count events of tenant %s: %w", tenant, err)
	}
	var total, rows int64
	for _, n := range info.State.Subjects {
		total += int64(n)
	}
	if err := e.DB.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT FROM events WHERE tenant = $1 LIMIT $2) AS counted`, tenant, countMost).Scan(&rows); err != nil {
		return 0, fmt.Errorf("count events of tenant %s: %w", tenant, err)
	}
	deliveries, err := e.Deliveries.CountTenant(ctx, tenant)
	return total + rows + deliveries, err
}

// overwrite removes a tenant's events from the stream, the latest of them overwritten with random bytes: the stream's files
// keep removed messages until most of a file is removed.
func (e *Eraser) overwrite(ctx context.Context, tenant string) error {
	stream, err := e.JetStream.Stream(ctx, Stream)
	if err != nil {
		return err
	}
	subjects := event.SubjectPrefix + tenant + ".>"
	if err := stream.Purge(ctx, natsjs.WithPurgeSubject(subjects), natsjs.WithPurgeKeep(overwriteMost)); err != nil {
		return err
	}
	for next := uint64(1); ; next++ {
		msg, err := stream.GetMsg(ctx, next, natsjs.WithGetMsgSubject(subjects))
		if errors.Is(err, natsjs.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		next = msg.Sequence
		begun := time.Now()
		if err := stream.SecureDeleteMsg(ctx, next); err != nil && !errors.Is(err, natsjs.ErrMsgNotFound) {
			return err
		}
		// The disk is the publishers' for as long as it was this one's.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Since(begun)):
		}
	}
}

// wipe removes what Postgres holds of a tenant.
func (e *Eraser) wipe(ctx context.Context, tenant string) error {
	if err := e.Deliveries.EraseTenant(ctx, tenant); err != nil {
		return err
	}
	for _, table := range []string{"quarantine", "quarantine_trims", "event_keys", "replays"} {
		if err := e.forget(ctx, table, tenant); err != nil {
			return fmt.Errorf("erase %s of tenant %s: %w", table, tenant, err)
		}
	}
	for {
		n, err := e.forgetEvents(ctx, tenant)
		if err != nil {
			return fmt.Errorf("erase events of tenant %s: %w", tenant, err)
		}
		if n < eraseChunk {
			return nil
		}
	}
}

// forget removes a tenant's rows of a table, so many in one transaction.
func (e *Eraser) forget(ctx context.Context, table, tenant string) error {
	return postgres.InBatches(ctx, e.DB, eraseChunk,
		`DELETE FROM `+table+` WHERE ctid IN (SELECT ctid FROM `+table+` WHERE tenant = $1 LIMIT $2)`, tenant, eraseChunk)
}

// forgetEvents removes a range of a tenant's events, and before that their kept copies.
func (e *Eraser) forgetEvents(ctx context.Context, tenant string) (int, error) {
	rows, err := e.DB.QueryContext(ctx, `SELECT uid FROM events WHERE tenant = $1 ORDER BY uid LIMIT $2`, tenant, eraseChunk)
	if err != nil {
		return 0, err
	}
	uids, err := collectUIDs(rows)
	if err != nil || len(uids) == 0 {
		return 0, err
	}
	if err := e.Deliveries.EraseEvents(ctx, uids); err != nil {
		return 0, err
	}
	for _, uid := range uids {
		e.Forget(uid)
	}
	return len(uids), postgres.Retry(ctx, e.DB, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM event_refs WHERE uid BETWEEN $1 AND $2 AND uid = ANY($3)`, uids[0], uids[len(uids)-1], pq.Array(uids)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM events WHERE uid BETWEEN $1 AND $2 AND uid = ANY($3)`, uids[0], uids[len(uids)-1], pq.Array(uids))
		return err
	})
}

func collectUIDs(rows *sql.Rows) (uids []uuid.UUID, err error) {
	defer rows.Close()
	for rows.Next() {
		var uid uuid.UUID
		if err := rows.Scan(&uid); err != nil {
			return nil, err
		}
		uids = append(uids, uid)
	}
	return uids, rows.Err()
}
