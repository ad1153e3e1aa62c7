package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
)

const (
	// keepPage and keepBytes bound the events that are copied by one statement.
	keepPage  = 500
	keepBytes = 4 << 20
	// keepSlack is how far the broker's clock may have been set back: an event's id has the time of its acceptance.
	keepSlack = time.Minute
)

// eventReader reads events that were accepted before; *deliver.Events is one.
type eventReader interface {
	Get(ctx context.Context, uid uuid.UUID, seq uint64) (*event.Event, error)
}

// Keeper copies events into Postgres for the deliveries that wait for a time, before the events leave their stream.
type Keeper struct {
	ledger *Ledger
	events eventReader
	keys   *tenantkeys.Keys
}

// NewKeeper makes a Keeper. Without keys, events are copied in the clear.
func NewKeeper(db *sql.DB, events eventReader, keys *tenantkeys.Keys) *Keeper {
	return &Keeper{ledger: New(db), events: events, keys: keys}
}

// Stretch is a part of the stream of events.
type Stretch struct {
	Last     uint64    // its last place
	From, To time.Time // when its first and its last event were accepted, at the earliest and the latest
}

// Keep copies the events of a stretch that have pending deliveries and no copy yet, and returns how many. Without an
// error, no pending delivery needs the stretch any more.
func (k *Keeper) Keep(ctx context.Context, of Stretch) (kept int, err error) {
	after, before := outcome.FirstID(of.From.Add(-keepSlack)), outcome.FirstID(of.To.Add(keepSlack))
	for {
		page, err := k.ledger.uncopied(ctx, after, before, of.Last)
		if err != nil || len(page) == 0 {
			return kept, err
		}
		n, err := k.copy(ctx, page)
		kept += n
		if err != nil {
			return kept, err
		}
		after = page[len(page)-1].uid
	}
}

// place is an event with its place in the stream.
type place struct {
	uid uuid.UUID
	seq uint64
}

// copy writes the bytes of events and returns of how many. An event that is gone already is left out: its deliveries
// end when they are attempted.
func (k *Keeper) copy(ctx context.Context, page []place) (n int, err error) {
	bodies, size := map[uuid.UUID][]byte{}, 0
	flush := func() error {
		err := k.ledger.keep(ctx, bodies)
		n += len(bodies)
		clear(bodies)
		size = 0
		return err
	}
	for _, p := range page {
		e, err := k.events.Get(ctx, p.uid, p.seq)
		if errors.Is(err, event.ErrGone) {
			continue
		}
		if err != nil {
			return n, fmt.Errorf("read event %s: %w", p.uid, err)
		}
		sealed, err := event.Seal(ctx, k.keys, e)
		if err != nil {
			return n, err
		}
		if sealed != nil && len(sealed) == 0 {
			continue // The tenant was erased.
		}
		bodies[p.uid] = event.Pack(e, sealed)
		if size += len(bodies[p.uid]); size >= keepBytes {
			if err := flush(); err != nil {
				return n, err
			}
		}
	}
	return n, flush()
}

// Drop removes the copies that Keep made and that nothing needs any more, and returns how many. The copy of an event
// with a dead delivery stays until that expires.
func (k *Keeper) Drop(ctx context.Context) (dropped int64, err error) {
	for {
		ended, n, err := k.ledger.dropCopies(ctx)
		dropped += n
		if err != nil || ended < FollowChunk {
			return dropped, err
		}
	}
}

// uncopied returns events with pending deliveries, between two ids and up to a place of the stream, that have no copy, in
// the order of their ids.
func (l *Ledger) uncopied(ctx context.Context, after, before uuid.UUID, last uint64) ([]place, error) {
	rows, err := l.DB.QueryContext(ctx, `
SELECT DISTINCT event_uid, seq FROM deferrals d WHERE event_uid > $1 AND event_uid < $2 AND seq <= $3
    AND NOT EXISTS (SELECT FROM event_data k WHERE k.uid = d.event_uid) ORDER BY event_uid LIMIT $4`, after, before, int64(last), keepPage)
	return places(rows, err)
}

// places reads events whose bytes are to be kept.
func places(rows *sql.Rows, err error) ([]place, error) {
	list, err := postgres.Collect(rows, err, func(rows *sql.Rows) (p place, err error) {
		err = rows.Scan(&p.uid, &p.seq)
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("look for events to keep: %w", err)
	}
	return list, nil
}

// keep writes the bytes of events that pending deliveries need.
func (l *Ledger) keep(ctx context.Context, bodies map[uuid.UUID][]byte) error {
	if len(bodies) == 0 {
		return nil
	}
	c := postgres.Columns(2, len(bodies))
	for uid, body := range bodies {
		c[0].UUID(uid)
		c[1].Bytes(body)
	}
	_, err := l.DB.ExecContext(ctx, `
INSERT INTO event_data (uid, body, waiting) SELECT o.*, true FROM unnest($1::uuid[], $2::bytea[]) AS o ON CONFLICT DO NOTHING`,
		postgres.Args(c)...)
	if err != nil {
		return fmt.Errorf("keep events: %w", err)
	}
	return nil
}

// dropCopies looks at some copies whose deliveries all ended, and removes them unless one is dead: those become like any
// other copy of a dead delivery.
func (l *Ledger) dropCopies(ctx context.Context) (ended, dropped int64, err error) {
	err = postgres.Retry(ctx, l.DB, func(ctx context.Context, tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `
WITH ended AS MATERIALIZED (
    SELECT uid, EXISTS (SELECT FROM deliveries e WHERE e.event_uid = d.uid AND e.state = 'dead') AS dead
    FROM event_data d WHERE waiting AND NOT EXISTS (SELECT FROM deferrals p WHERE p.event_uid = d.uid) LIMIT $1
), dead AS (
    UPDATE event_data SET waiting = false WHERE uid IN (SELECT uid FROM ended WHERE dead)
), gone AS (
    DELETE FROM event_data WHERE uid IN (SELECT uid FROM ended WHERE NOT dead) RETURNING uid
) SELECT (SELECT count(*) FROM ended), (SELECT count(*) FROM gone)`, FollowChunk).Scan(&ended, &dropped)
	})
	if err != nil {
		return 0, 0, fmt.Errorf("drop copies of events: %w", err)
	}
	return ended, dropped, nil
}
