package fanout

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// What is read of the stream at once. As long as the broker reads a batch, nothing is stored in that stream: few messages
// delay publishing by a millisecond. A batch of a subject costs more than its messages, because the
// broker counts what else there is of the subject, from block to block; so what can do without names none.
const (
	ReadMessages = 100
	ReadBytes    = 1 << 20
)

// between iterates over events of the stream from one place to another, both included: a tenant's or, if that is empty, all.
func (r *Reader) between(ctx context.Context, tenant string, low, high uint64) iter.Seq2[*event.Event, error] {
	return func(yield func(*event.Event, error) bool) {
		for low = max(low, 1); low <= high; {
			next, err := r.piece(ctx, tenant, low, high, yield)
			if err != nil {
				yield(nil, fmt.Errorf("read events %d to %d: %w", low, high, err))
				return
			}
			if next <= low {
				return
			}
			low = next
		}
	}
}

// piece yields the events of one read between two places, and returns where the next one begins: 0 at the end, or when
// the reader has enough.
func (r *Reader) piece(ctx context.Context, tenant string, low, high uint64, yield func(*event.Event, error) bool) (next uint64, err error) {
	messages := jetstream.Stored(ctx, r.js, Stream, int(min(ReadMessages, high-low+1)),
		jetstreamext.GetBatchSeq(low), jetstreamext.GetBatchMaxBytes(ReadBytes))
	for raw, err := range messages {
		if err != nil {
			return 0, err
		}
		if raw.Sequence > high {
			return 0, nil
		}
		next = raw.Sequence + 1
		if tenant != "" && !strings.HasPrefix(raw.Subject, event.SubjectPrefix+tenant+".") {
			continue
		}
		e, refusal := event.Decode(event.Stored(raw))
		if refusal != nil || !jsontext.Value(e.Data).IsValid() {
			continue // It is in quarantine.
		}
		if !yield(e, nil) {
			return 0, nil
		}
	}
	return next, nil
}

// ends are the places of the first and the last message in the stream.
func (r *Reader) ends(ctx context.Context) (first, last uint64, err error) {
	state, err := r.state(ctx)
	return state.FirstSeq, state.LastSeq, err
}

func (r *Reader) state(ctx context.Context) (natsjs.StreamState, error) {
	stream, err := r.open(ctx)
	if err != nil {
		return natsjs.StreamState{}, err
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return natsjs.StreamState{}, fmt.Errorf("look at stream %s: %w", Stream, jetstream.Classify(err))
	}
	return info.State, nil
}

// Oldest is where the events begin that can be sent again.
type Oldest struct {
	Seq uint64    // events before this place have left the stream
	At  time.Time // when the oldest event was accepted; zero if the stream is empty
}

// Oldest asks how far back events can be sent again.
func (r *Reader) Oldest(ctx context.Context) (Oldest, error) {
	state, err := r.state(ctx)
	o := Oldest{Seq: state.FirstSeq}
	if state.Msgs > 0 {
		o.At = state.FirstTime.UTC()
	}
	return o, err
}
