package ingest

import (
	"context"
	"errors"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// errCrowded says that more requests wait than may.
var errCrowded = errors.New("too many requests wait")

// door bounds the memory of the requests under way, and how many wait for it.
type door struct {
	room       *semaphore.Weighted
	waiting    atomic.Int64
	maxWaiting int64
}

func newDoor(cfg Config) *door {
	return &door{room: semaphore.NewWeighted(cfg.Memory), maxWaiting: int64(cfg.MaxWaiting)}
}

// weight is about what a request of so many bytes takes in memory until it is answered: its body, and for each
// event of the usual size a message, its headers and its place in two groups.
func weight(bytes int64) int64 { return 16<<10 + 4*bytes }

// enter waits for room and returns what gives it back.
func (d *door) enter(ctx context.Context, bytes int64) (leave func(), err error) {
	n := weight(bytes)
	if !d.room.TryAcquire(n) {
		if d.waiting.Add(1) > d.maxWaiting {
			d.waiting.Add(-1)
			return nil, errCrowded
		}
		err := d.room.Acquire(ctx, n)
		d.waiting.Add(-1)
		if err != nil {
			return nil, errCrowded
		}
	}
	return func() { d.room.Release(n) }, nil
}
