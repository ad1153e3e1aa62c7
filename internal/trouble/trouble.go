// Package trouble logs failures that mend themselves: errors come in from any number of goroutines, and each kind goes out
// as one line of the log in five seconds, with how often it was. When Postgres or NATS is away, thousands of calls fail at once.
package trouble

import (
	"log/slog"
	"sync"
	"time"
)

// every is how often one kind is logged.
const every = 5 * time.Second

// Log is where failures are noted. Many goroutines may use one.
type Log struct {
	log *slog.Logger

	mu   sync.Mutex
	told map[string]*told
}

type told struct {
	at    time.Time
	since int // how often it was since
}

// New makes a Log.
func New(log *slog.Logger) *Log { return &Log{log: log, told: make(map[string]*told)} }

// Note logs one kind of failure, unless it has just been logged. The kind is the line's message.
func (t *Log) Note(kind string, err error) {
	t.mu.Lock()
	last := t.told[kind]
	if last == nil {
		last = &told{}
		t.told[kind] = last
	}
	last.since++
	now := time.Now()
	if now.Sub(last.at) < every {
		t.mu.Unlock()
		return
	}
	times := last.since
	last.at, last.since = now, 0
	t.mu.Unlock()
	t.log.Warn(kind, "times", times, "error", err) //nolint:sloglint // Each caller's kind is a constant.
}
