package deliver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sync/singleflight"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
)

// readTimeout bounds the reading of one event.
const readTimeout = 5 * time.Second

// EventsConfig says where events are.
type EventsConfig struct {
	// Read reads the event at a place in the stream of events; event.ErrGone if there is none any more. It is
	// fan-out's to give: what a message of that stream means is decided there alone.
	Read func(ctx context.Context, seq uint64) (*event.Event, error)
	// Keys open what the ledger keeps; nil if that is in the clear.
	Keys *tenantkeys.Keys
	// CacheBytes bounds the events kept in memory; 0 means 16 MiB.
	CacheBytes int
}

// Events reads events that were accepted before, by their place in the stream. Most are read again and
// again, once for each retry of each delivery, so the last ones are kept.
type Events struct {
	cfg    EventsConfig
	ledger *ledger.Ledger
	flight singleflight.Group

	mu    sync.Mutex
	cache *simplelru.LRU[uuid.UUID, *stored]
	bytes int
}

// stored is an event with what it is rendered to. Neither is written to, but by Bodies itself.
type stored struct {
	event  *event.Event
	bodies *webhook.Bodies
	size   int
}

// NewEvents makes a reader of events.
func NewEvents(cfg EventsConfig, db *sql.DB) (*Events, error) {
	if cfg.CacheBytes <= 0 {
		cfg.CacheBytes = 16 << 20
	}
	e := &Events{cfg: cfg, ledger: ledger.New(db).With(cfg.Keys)}
	var err error
	e.cache, err = simplelru.NewLRU(1<<20, func(_ uuid.UUID, s *stored) { e.bytes -= s.size })
	if err != nil {
		return nil, fmt.Errorf("make event cache: %w", err)
	}
	return e, nil
}

// Keys open sealed contents; nil events have none.
func (e *Events) Keys() *tenantkeys.Keys {
	if e == nil {
		return nil
	}
	return e.ledger.Keys
}

// Get returns an event. It fails with event.ErrGone if the event is nowhere any more.
func (e *Events) Get(ctx context.Context, uid uuid.UUID, seq uint64) (*event.Event, error) {
	s, err := e.get(ctx, uid, seq)
	if err != nil {
		return nil, err
	}
	return s.event, nil
}

// Remember keeps an event in memory, as it will be asked for soon.
func (e *Events) Remember(event *event.Event) {
	e.mu.Lock()
	known := e.cache.Contains(event.UID)
	e.mu.Unlock()
	if !known {
		e.keep(event)
	}
}

func (e *Events) get(ctx context.Context, uid uuid.UUID, seq uint64) (*stored, error) {
	e.mu.Lock()
	s, ok := e.cache.Get(uid)
	e.mu.Unlock()
	if ok {
		return s, nil
	}
	v, err, _ := e.flight.Do(string(uid[:]), func() (any, error) {
		// Others may wait for this read, so it is not the first caller's to cancel.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		event, err := e.read(ctx, uid, seq)
		if err != nil {
			return nil, err
		}
		return e.keep(event), nil
	})
	if err != nil {
		return nil, fmt.Errorf("read event %s: %w", uid, err)
	}
	return v.(*stored), nil
}

// keep caches an event and evicts the least recently used ones beyond Config.CacheBytes. An event that another caller cached
// meanwhile stays: the cache evicts each key once, so replacing a value would leave the size of the former one in the sum.
func (e *Events) keep(event *event.Event) *stored {
	const overhead = 512 // of the structures, and as much again for rendered bodies
	e.mu.Lock()
	defer e.mu.Unlock()
	if s, ok := e.cache.Get(event.UID); ok {
		return s
	}
	s := &stored{event: event, bodies: new(webhook.Bodies), size: 2*len(event.Data) + overhead}
	e.cache.Add(event.UID, s)
	e.bytes += s.size
	for e.bytes > e.cfg.CacheBytes && e.cache.Len() > 1 {
		e.cache.RemoveOldest()
	}
	return s
}

// copiesAsked is how often a place of the stream is read that holds another event: any of the servers that have a copy
// answers, and one whose copy went astray must not make an event count as gone.
const copiesAsked = 5

// read asks the stream, then the ledger. A place in the stream may hold another event, if the stream was lost
// and made anew; the uid tells.
func (e *Events) read(ctx context.Context, uid uuid.UUID, seq uint64) (*event.Event, error) {
	for range copiesAsked {
		read, err := e.cfg.Read(ctx, seq)
		if errors.Is(err, event.ErrGone) {
			break
		}
		if err != nil {
			return nil, err
		}
		if found := read.As(uid); found != nil {
			return found, nil
		}
	}
	return e.Kept(ctx, uid)
}

// Kept returns what the ledger keeps of an event, past the cache; event.ErrGone if that is nothing.
func (e *Events) Kept(ctx context.Context, uid uuid.UUID) (*event.Event, error) {
	body, err := e.ledger.EventBody(ctx, uid)
	if err != nil {
		return nil, err
	}
	kept, sealed, err := event.Unpack(body)
	if err == nil && sealed != nil {
		err = event.Open(ctx, e.ledger.Keys, kept, sealed)
	}
	if err != nil {
		return nil, err
	}
	return kept, nil
}

// Sendable returns an event that is to be sent again; event.ErrGone if it cannot be. What was erased may still be in
// memory here, which does not count.
func (e *Events) Sendable(ctx context.Context, uid uuid.UUID, seq uint64) (*event.Event, error) {
	erased, err := e.ledger.Erased(ctx, uid)
	if err != nil {
		return nil, err
	}
	if erased {
		return e.Kept(ctx, uid)
	}
	return e.Get(ctx, uid, seq)
}

// Forget drops an event from the cache of this process.
func (e *Events) Forget(event uuid.UUID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cache.Remove(event)
}
