package jetstream

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

const (
	// DuplicateWindow is how long a stream remembers the ids of its messages, unless it restarts.
	DuplicateWindow = 2 * time.Minute
	// AckWait is how long a message may stay without an answer or a sign of progress until another gets it.
	AckWait = 15 * time.Second

	remedy = `run "fanfare topology apply"`
)

// Inbox is a stream and the durable consumers that read it: what a stage needs of the broker. What it leaves at zero is
// the operator's, as for instance the number of replicas: neither Apply nor Check looks at it.
type Inbox struct {
	Stream    natsjs.StreamConfig
	Consumers []natsjs.ConsumerConfig
	// Settings names the environment variable of a field of Stream that an operator sets.
	Settings map[string]string
}

// Apply creates the streams and consumers that are missing and updates those that differ. It deletes nothing; what
// cannot be updated, such as a stream's storage, is an error.
func Apply(ctx context.Context, js natsjs.JetStream, inboxes ...Inbox) error {
	for _, inbox := range inboxes {
		if err := inbox.applyStream(ctx, js); err != nil {
			return fmt.Errorf("apply stream %s: %w%s", inbox.Stream.Name, err, inbox.hint(err))
		}
		for _, consumer := range inbox.Consumers {
			if err := applyConsumer(ctx, js, inbox.Stream.Name, consumer); err != nil {
				return fmt.Errorf("apply consumer %s of stream %s: %w", consumer.Durable, inbox.Stream.Name, err)
			}
		}
	}
	return nil
}

// TakeBack makes the consumers hand out at once the messages that were handed out and not acknowledged. It is for a process that has NATS
// to itself and starts: what an earlier process had in hand when it was killed would else wait for AckWait.
func TakeBack(ctx context.Context, js natsjs.JetStream, inboxes ...Inbox) error {
	for _, inbox := range inboxes {
		for _, c := range inbox.Consumers {
			consumer, err := js.Consumer(ctx, inbox.Stream.Name, c.Durable)
			if err == nil && consumer.CachedInfo().NumAckPending > 0 {
				_, err = js.ResetConsumer(ctx, inbox.Stream.Name, c.Durable)
			}
			if err != nil {
				return fmt.Errorf("take back messages of consumer %s of stream %s: %w", c.Durable, inbox.Stream.Name, err)
			}
		}
	}
	return nil
}

func (b Inbox) applyStream(ctx context.Context, js natsjs.JetStream) error {
	stream, err := js.Stream(ctx, b.Stream.Name)
	if errors.Is(err, natsjs.ErrStreamNotFound) {
		stream, err = js.CreateStream(ctx, b.Stream)
		if errors.Is(err, natsjs.ErrStreamNameAlreadyInUse) { // Another process was quicker, and wants something else.
			stream, err = js.Stream(ctx, b.Stream.Name)
		}
	}
	if err != nil {
		return err
	}
	have := stream.CachedInfo().Config
	if same(have, b.Stream) {
		return nil
	}
	_, err = js.UpdateStream(ctx, overlay(have, b.Stream))
	return err
}

// hint says which settings decide where a server has too little room for the stream.
func (b Inbox) hint(err error) string {
	if !isCode(err, codeStorageResources) && !isCode(err, codeNoResources) {
		return ""
	}
	return fmt.Sprintf(": the server reserves %d bytes for it (%s): lower that, or raise max_file_store of the server's jetstream block",
		b.Stream.MaxBytes, b.Settings["MaxBytes"])
}

func applyConsumer(ctx context.Context, js natsjs.JetStream, stream string, want natsjs.ConsumerConfig) error {
	consumer, err := js.Consumer(ctx, stream, want.Durable)
	switch {
	case errors.Is(err, natsjs.ErrConsumerNotFound):
	case err != nil:
		return err
	case same(consumer.CachedInfo().Config, want):
		return nil
	default:
		want = overlay(consumer.CachedInfo().Config, want)
	}
	_, err = js.CreateOrUpdateConsumer(ctx, stream, want)
	return err
}

// same says whether each field of have is as want demands.
func same[T any](have, want T) bool {
	equal := true
	compare(&have, want, func(string, reflect.Value, reflect.Value) { equal = false })
	return equal
}

// overlay returns have with each field as want demands.
func overlay[T any](have, want T) T {
	compare(&have, want, func(_ string, have, want reflect.Value) { have.Set(want) })
	return have
}

// compare visits the fields of have that are not as want demands. A field of want that is zero demands nothing, unless
// it is a choice, such as the retention policy: of those the zero value is a choice as well.
func compare[T any](have *T, want T, visit func(field string, have, want reflect.Value)) {
	h, w := reflect.ValueOf(have).Elem(), reflect.ValueOf(want)
	for i := range w.NumField() {
		field := w.Type().Field(i)
		if w.Field(i).IsZero() && !isChoice(field.Type) {
			continue
		}
		if !reflect.DeepEqual(h.Field(i).Interface(), w.Field(i).Interface()) {
			visit(field.Name, h.Field(i), w.Field(i))
		}
	}
}

// isChoice says whether a type is one of the enumerations of the configurations.
func isChoice(t reflect.Type) bool {
	return t.PkgPath() == reflect.TypeFor[natsjs.StreamConfig]().PkgPath() && t.Kind() != reflect.Struct
}
