package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// nearlyFull is how many bytes below its bound a stream counts as full: the next large message is refused.
const nearlyFull = 1 << 20

// Present asks whether the streams and consumers of the inboxes exist, whatever their settings. Its error lists those that are
// missing.
func Present(ctx context.Context, js natsjs.JetStream, inboxes ...Inbox) error {
	var missing []string
	for _, inbox := range inboxes {
		name := inbox.Stream.Name
		stream, err := js.Stream(ctx, name)
		if errors.Is(err, natsjs.ErrStreamNotFound) {
			missing = append(missing, "stream "+name+" is missing")
			continue
		}
		if err != nil {
			return fmt.Errorf("look up stream %s: %w", name, err)
		}
		for _, want := range inbox.Consumers {
			_, err := stream.Consumer(ctx, want.Durable)
			if errors.Is(err, natsjs.ErrConsumerNotFound) {
				missing = append(missing, "consumer "+want.Durable+" of stream "+name+" is missing")
			} else if err != nil {
				return fmt.Errorf("look up consumer %s of stream %s: %w", want.Durable, name, err)
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s: %s", strings.Join(missing, "; "), remedy)
	}
	return nil
}

// CanPublish asks whether a message to the subject would be stored: the stream is not full, and the broker lets this
// account publish there. It stores nothing: the message names a last sequence that the stream cannot have, which the broker
// looks at before it stores.
func CanPublish(ctx context.Context, js natsjs.JetStream, stream, subject string) error {
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", stream, err)
	}
	info := s.CachedInfo()
	if most := info.Config.MaxBytes; info.Config.Discard == natsjs.DiscardNew && most > 0 && int64(info.State.Bytes)+nearlyFull > most {
		return fmt.Errorf("stream %s is full: it holds %d of at most %d bytes", stream, info.State.Bytes, most)
	}
	msg := nats.NewMsg(subject)
	msg.Header.Set(natsjs.ExpectedLastSeqHeader, "18446744073709551615")
	_, err = js.PublishMsg(ctx, msg, natsjs.WithRetryAttempts(0))
	if isCode(err, natsjs.JSErrCodeStreamWrongLastSequence) {
		return nil
	}
	if err == nil {
		return fmt.Errorf("stream %s stored a message that it must refuse", stream)
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) {
		return fmt.Errorf("stream %s does not answer messages published to %s: may this account publish there, and is the broker's disk full? %w", stream, subject, err)
	}
	return fmt.Errorf("publish to %s: %w", subject, err)
}
