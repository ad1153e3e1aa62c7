package fanout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// ErrGone says that the stream does not hold the event's bytes: too old, deleted, or not yet there.
var ErrGone = errors.New("the event is not in the stream")

// Reader reads events from the stream by their sequence.
type Reader struct {
	js natsjs.JetStream

	mu     sync.Mutex
	stream natsjs.Stream
}

// NewReader makes a Reader. It asks nothing of the broker until something is read.
func NewReader(js natsjs.JetStream) *Reader { return &Reader{js: js} }

// newLeader is how long a leader may not know all that the one before it stored: it was elected as it has it, but takes it in afterwards.
const newLeader = 30 * time.Second

// knows reports whether the server that answered knows what the stream holds: it leads a majority, and not only just now. One that was cut off
// from the others takes itself for the leader for a while, and does not know what the new leader stored.
func knows(info *natsjs.StreamInfo) bool {
	if info.Config.Replicas <= 1 || info.Cluster == nil {
		return true
	}
	if since := info.Cluster.LeaderSince; since != nil && info.TimeStamp.Sub(*since) < newLeader {
		return false
	}
	n := 1
	for _, r := range info.Cluster.Replicas {
		if r.Current && !r.Offline {
			n++
		}
	}
	return n > info.Config.Replicas/2
}

// Read returns the event at a sequence. ErrGone: there is none, or none that is valid.
func (r *Reader) Read(ctx context.Context, seq uint64) (*event.Event, error) {
	w, err := r.Message(ctx, seq)
	if err != nil {
		return nil, err
	}
	e, refusal := event.Decode(w)
	if refusal != nil {
		return nil, fmt.Errorf("read event %d: %w: %s", seq, ErrGone, refusal.Error())
	}
	return e, nil
}

// Message returns the message at a sequence; ErrGone: there is none.
func (r *Reader) Message(ctx context.Context, seq uint64) (event.Wire, error) {
	stream, err := r.open(ctx)
	if err != nil {
		return event.Wire{}, err
	}
	raw, err := stored(ctx, stream, seq)
	if err != nil {
		return event.Wire{}, fmt.Errorf("read event %d: %w", seq, err)
	}
	return event.Stored(raw), nil
}

// stored reads a message; ErrGone: there is none. Any server that has a copy of the stream may answer, and one that
// lost its disk, or is behind, does not have the message: only the leader knows which are gone.
func stored(ctx context.Context, stream natsjs.Stream, seq uint64) (*natsjs.RawStreamMsg, error) {
	raw, err := stream.GetMsg(ctx, seq)
	if !errors.Is(err, natsjs.ErrMsgNotFound) {
		return raw, err
	}
	info, err := stream.Info(ctx)
	if err == nil && info.State.NumDeleted > 0 {
		info, err = stream.Info(ctx, natsjs.WithDeletedDetails(true))
	}
	switch {
	case err != nil:
		return nil, jetstream.Classify(err)
	case !knows(info):
		return nil, fmt.Errorf("%w: the server that was asked leads the stream too short, or too few others, to know", jetstream.ErrUnavailable)
	case seq < info.State.FirstSeq, seq > info.State.LastSeq, slices.Contains(info.State.Deleted, seq):
		return nil, ErrGone
	default:
		return nil, fmt.Errorf("%w: the server that was asked does not have the message yet", jetstream.ErrUnavailable)
	}
}

// open binds to the stream once.
func (r *Reader) open(ctx context.Context) (natsjs.Stream, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stream == nil {
		stream, err := r.js.Stream(ctx, Stream)
		if err != nil {
			return nil, fmt.Errorf("open stream %s: %w", Stream, err)
		}
		r.stream = stream
	}
	return r.stream, nil
}
