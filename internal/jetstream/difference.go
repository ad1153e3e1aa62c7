package jetstream

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// Difference is a stream or consumer that is missing, or a field of it that is not as an Inbox demands.
type Difference struct {
	Stream, Consumer string // Consumer is empty where the stream itself differs
	Field            string // empty: it is missing
	Have, Want       any
	Setting          string // the variable that sets Want; empty: Want is Fanfare's own
	Stored           uint64 // bytes in the stream
}

// String names both values, and how to make them equal.
func (d Difference) String() string {
	what := "stream " + d.Stream
	if d.Consumer != "" {
		what = "consumer " + d.Consumer + " of " + what
	}
	switch {
	case d.Field == "":
		return what + " is missing"
	case d.Setting != "":
		return fmt.Sprintf("%s: %s is %v, and %s says %v here: set it to %v, or change the stream with topology apply",
			what, d.Field, d.Have, d.Setting, d.Want, d.Have)
	default:
		return fmt.Sprintf("%s: %s is %v, not %v", what, d.Field, d.Have, d.Want)
	}
}

// Shrinks says whether the stream would hold less, or fewer copies, if it became as demanded.
func (d Difference) Shrinks() bool {
	switch have := d.Have.(type) {
	case int: // replicas
		return have > d.Want.(int)
	case int64: // bytes; less than one: no bound
		return have <= 0 || have > d.Want.(int64)
	case time.Duration: // age; 0: no bound
		return have <= 0 || have > d.Want.(time.Duration)
	default:
		return false
	}
}

// Check changes nothing. Its error lists each stream and consumer that is missing or differs, and what mends it.
func Check(ctx context.Context, js natsjs.JetStream, inboxes ...Inbox) error {
	all, err := Differences(ctx, js, inboxes...)
	if err != nil {
		return err
	}
	return Refusal(all)
}

// Refusal is an error that lists the differences and what mends them; nil if there are none.
func Refusal(all []Difference) error {
	if len(all) == 0 {
		return nil
	}
	wrong := make([]string, len(all))
	for i, d := range all {
		wrong[i] = d.String()
	}
	return fmt.Errorf("%s: %s", strings.Join(wrong, "; "), remedy)
}

// Differences lists streams and consumers that are missing or differ from the inboxes.
func Differences(ctx context.Context, js natsjs.JetStream, inboxes ...Inbox) (all []Difference, err error) {
	for _, inbox := range inboxes {
		found, err := inbox.differences(ctx, js)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func (b Inbox) differences(ctx context.Context, js natsjs.JetStream) (all []Difference, err error) {
	name := b.Stream.Name
	stream, err := js.Stream(ctx, name)
	if errors.Is(err, natsjs.ErrStreamNotFound) {
		return []Difference{{Stream: name}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", name, err)
	}
	info := stream.CachedInfo()
	want := b.asMade(js.Conn(), &info.Config).Stream
	compare(&info.Config, want, func(field string, have, want reflect.Value) {
		all = append(all, Difference{
			Stream: name, Field: field, Have: have.Interface(), Want: want.Interface(), Setting: b.Settings[field], Stored: info.State.Bytes,
		})
	})
	for _, want := range b.Consumers {
		consumer, err := stream.Consumer(ctx, want.Durable)
		if errors.Is(err, natsjs.ErrConsumerNotFound) {
			all = append(all, Difference{Stream: name, Consumer: want.Durable})
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look up consumer %s of stream %s: %w", want.Durable, name, err)
		}
		compare(&consumer.CachedInfo().Config, want, func(field string, have, want reflect.Value) {
			all = append(all, Difference{
				Stream: name, Consumer: consumer.CachedInfo().Name, Field: field, Have: have.Interface(), Want: want.Interface(),
			})
		})
	}
	return all, nil
}
