package deliver

import (
	"log/slog"
	"sync"
	"time"
)

// troubleEvery is how often one kind of trouble is told.
const troubleEvery = 5 * time.Second

// trouble tells of what goes wrong and mends itself. When Postgres or NATS is away that happens to thousands at
// once, so each kind is told once in a while, with how often it was.
type trouble struct {
	log *slog.Logger

	mu   sync.Mutex
	told map[string]*told
}

type told struct {
	at    time.Time
	since int // how often it was since
}

func newTrouble(log *slog.Logger) *trouble { return &trouble{log: log, told: make(map[string]*told)} }

// note tells of one kind of trouble, unless it has just been told.
func (t *trouble) note(kind string, err error) {
	t.mu.Lock()
	last := t.told[kind]
	if last == nil {
		last = &told{}
		t.told[kind] = last
	}
	last.since++
	now := time.Now()
	if now.Sub(last.at) < troubleEvery {
		t.mu.Unlock()
		return
	}
	times := last.since
	last.at, last.since = now, 0
	t.mu.Unlock()
	t.log.Warn("trouble", "kind", kind, "times", times, "error", err)
}
