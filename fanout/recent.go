package fanout

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/fair"
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
	Ledger *Ledger
	Reader *Reader
	Bytes  Bytes

	places *fair.Places
}

// NewRecent makes a Recent.
func NewRecent(ledger *Ledger, reader *Reader, bytes Bytes) *Recent {
	return &Recent{Ledger: ledger, Reader: reader, Bytes: bytes, places: fair.NewPlaces(1)}
}

// errRecent says that too many readings are under way.
var errRecent = errors.New("too many events are being read")

// Each passes the newest events of a type to take: at most 1,000 of a tenant or, if that is empty, of all tenants, as far back
// as 16 MiB and 8 seconds reach, until take returns false. Events whose bytes are gone are left out.
func (r *Recent) Each(ctx context.Context, tenant, eventType string, take func(*event.Event) bool) error {
	waiting, cancel := context.WithTimeout(ctx, previewWait)
	defer cancel()
	leave, err := r.places.Enter(waiting, tenant)
	if err != nil {
		return api.Unavailable(errRecent)
	}
	defer leave()
	timed, cancel := context.WithTimeout(ctx, recentTime)
	defer cancel()
	err = r.each(timed, tenant, eventType, take)
	if timed.Err() != nil && ctx.Err() == nil {
		return nil
	}
	return err
}

func (r *Recent) each(ctx context.Context, tenant, eventType string, take func(*event.Event) bool) error {
	left, bytes := recentEvents, recentBytes
	size := previewFirst
	sieve := Sieve{Reader: r.Reader, Bytes: r.Bytes, Rest: recentRest}
	for page := (filter{tenant: tenant, eventType: eventType}); left > 0 && bytes > 0; size = min(2*size, recentPage) {
		begun := time.Now()
		page.limit = min(size, left)
		rows, cut, err := r.Ledger.list(ctx, page)
		if err != nil {
			return err
		}
		full := len(rows) == page.limit
		if full {
			page.after = rows[len(rows)-1].UID
		} else {
			page.after = cut
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
		if err != nil || page.after == uuid.Nil {
			return err
		}
	}
	return nil
}
