package fanout

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/fair"
	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// What Recent reads at most: events, their bytes, and for how long.
const (
	recentEvents = 1000
	recentBytes  = 16 << 20
	recentTime   = 8 * time.Second
	recentPage   = 100
	// recentRest is how many times as long as its work the reading rests, so that live events go first.
	recentRest = 2
)

// Recent reads the newest events of a type. One reading runs at a time in a process; tenants take turns.
type Recent struct {
	ledger *Ledger
	reader *Reader
	bytes  Bytes
	room   *fair.Room
}

// NewRecent makes a Recent.
func NewRecent(ledger *Ledger, reader *Reader, bytes Bytes) *Recent {
	return &Recent{ledger: ledger, reader: reader, bytes: bytes, room: fair.NewRoom(1, previewWait)}
}

// Each passes the newest events of a type to take: at most 1,000 of a tenant or, if that is empty, of all tenants, as far back
// as 16 MiB and 8 seconds reach, until take returns false. Events whose bytes are gone are left out. The error reports itself as
// unavailable where nothing could be read in time.
func (r *Recent) Each(ctx context.Context, tenant, eventType string, take func(*event.Event) bool) error {
	leave, err := r.room.Enter(ctx, tenant)
	if err != nil {
		return err
	}
	defer leave()
	timed, cancel := context.WithTimeout(ctx, recentTime)
	defer cancel()
	seen := false
	err = r.each(timed, tenant, eventType, func(e *event.Event) bool {
		seen = true
		return take(e)
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() == nil && timed.Err() != nil && seen:
		return nil
	case ctx.Err() == nil && timed.Err() != nil:
		return api.Unavailable(err)
	}
	return fmt.Errorf("read recent events of type %s: %w", eventType, err)
}

func (r *Recent) each(ctx context.Context, tenant, eventType string, take func(*event.Event) bool) error {
	left, bytes := recentEvents, recentBytes
	size := previewFirst
	sieve := Sieve{Reader: r.reader, Bytes: r.bytes, Rest: recentRest}
	for page := (filter{tenant: tenant, eventType: eventType}); left > 0 && bytes > 0; size = min(2*size, recentPage) {
		begun := time.Now()
		page.limit = min(size, left)
		rows, cut, err := r.ledger.list(ctx, page)
		if err != nil {
			return err
		}
		page.after = cut
		if len(rows) == page.limit {
			page.after = rows[len(rows)-1].UID
		}
		if err := rest(ctx, recentRest*time.Since(begun)); err != nil {
			return err
		}
		left -= len(rows)
		err = sieve.read(ctx, tenant, rows, func(_ uuid.UUID, e *event.Event) {
			if bytes > 0 && !e.Test && !take(e) {
				bytes = 0
			}
			bytes -= len(e.Data)
		})
		if err != nil {
			return jetstream.Classify(err)
		}
		if page.after == uuid.Nil {
			return nil
		}
	}
	return nil
}
