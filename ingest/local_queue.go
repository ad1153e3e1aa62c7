package ingest

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"
)

const (
	// localBytes bounds the messages of local publishers that wait; a tenant may have as many as are free: half, alone.
	localBytes = 32 << 20
	// localOverhead is about what a message takes in memory beside its bytes.
	localOverhead = 1 << 10
)

// localQueue holds the messages of local publishers that wait to be stored, in a queue for each tenant.
type localQueue struct {
	mu     sync.Mutex
	free   int
	closed bool
	queues map[string]*localTenant
	turns  []*localTenant // in the order of their turns
	wake   chan struct{}  // holds a token when messages may wait
}

// localTenant holds the waiting messages of one tenant.
type localTenant struct {
	name    string
	waiting []*nats.Msg
	bytes   int
}

func newLocalQueue() *localQueue {
	return &localQueue{free: localBytes, queues: map[string]*localTenant{}, wake: make(chan struct{}, 1)}
}

func localSize(m *nats.Msg) int { return m.Size() + localOverhead }

// add queues a message, unless its tenant has as much waiting as is free.
func (q *localQueue) add(tenant string, m *nats.Msg) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	t, size := q.queues[tenant], localSize(m)
	have := 0
	if t != nil {
		have = t.bytes
	}
	if q.closed || have+size > q.free {
		return false
	}
	if t == nil {
		t = &localTenant{name: tenant}
		q.queues[tenant] = t
		q.turns = append(q.turns, t)
	}
	t.waiting = append(t.waiting, m)
	t.bytes += size
	q.free -= size
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// next waits for messages and returns a batch, one of each tenant in turn. The error is the context's.
func (q *localQueue) next(ctx context.Context) ([]*nats.Msg, error) {
	for ctx.Err() == nil {
		if batch := q.take(); len(batch) > 0 {
			return batch, nil
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
		}
	}
	return nil, ctx.Err()
}

// take returns the next batch; nothing if no message waits.
func (q *localQueue) take() (batch []*nats.Msg) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for bytes := 0; len(q.turns) > 0 && len(batch) < localBatch; {
		t := q.turns[0]
		m := t.waiting[0]
		if bytes += m.Size(); len(batch) > 0 && bytes > localBatchBytes {
			break
		}
		batch = append(batch, m)
		t.waiting[0] = nil
		t.waiting = t.waiting[1:]
		t.bytes -= localSize(m)
		q.free += localSize(m)
		q.turns = q.turns[1:]
		if len(t.waiting) > 0 {
			q.turns = append(q.turns, t)
		} else {
			delete(q.queues, t.name)
		}
	}
	return batch
}

// close returns the messages that wait, and takes no more.
func (q *localQueue) close() (left []*nats.Msg) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, t := range q.turns {
		left = append(left, t.waiting...)
	}
	return left
}
