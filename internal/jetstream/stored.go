package jetstream

import (
	"context"
	"errors"
	"iter"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// Stored reads at most so many messages of a stream, without a consumer. It ends after them, at the end of the stream, or with an
// error.
func Stored(
	ctx context.Context, js natsjs.JetStream, stream string, most int, opts ...jetstreamext.GetBatchOpt,
) iter.Seq2[*natsjs.RawStreamMsg, error] {
	return func(yield func(*natsjs.RawStreamMsg, error) bool) {
		messages, err := jetstreamext.GetBatch(ctx, js, stream, most, opts...)
		if err != nil {
			yield(nil, err)
			return
		}
		for msg, err := range messages {
			if errors.Is(err, jetstreamext.ErrNoMessages) || !yield(msg, err) {
				return
			}
		}
	}
}
