package jetstream

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/nats-io/nats.go"
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
	// Unsynced says that the stream may lose its last messages when its server dies, because its owner finds and sends them again.
	// See asMade.
	Unsynced bool
}

// StreamOf is the configuration of a stream that a stage owns: messages stay until they are removed, and a full stream refuses more.
func StreamOf(name, subjects string, maxBytes int64) natsjs.StreamConfig {
	return natsjs.StreamConfig{
		Name: name, Subjects: []string{subjects}, MaxBytes: maxBytes,
		Retention: natsjs.LimitsPolicy, Storage: natsjs.FileStorage, Discard: natsjs.DiscardNew,
		Duplicates: DuplicateWindow, AllowAtomicPublish: true, AllowDirect: true,
	}
}

// ConsumerOf is the configuration of a durable consumer that hands out messages until they are acknowledged.
func ConsumerOf(durable, description string, maxAckPending int) natsjs.ConsumerConfig {
	return natsjs.ConsumerConfig{
		Durable: durable, Description: description, MaxAckPending: maxAckPending,
		AckPolicy: natsjs.AckExplicitPolicy, AckWait: AckWait, MaxDeliver: -1,
	}
}

// asMade returns the inbox with the stream that suits the broker. An unsynced stream of one server acknowledges messages
// before they are written (persist_mode async), and then takes no atomic batches. NATS refuses that mode for replicated
// streams, cannot change it, and in a cluster the connection to one server does not tell that another one died. So a
// stream that exists keeps its mode; have is its configuration, nil for a new stream.
func (b Inbox) asMade(nc *nats.Conn, have *natsjs.StreamConfig) Inbox {
	switch {
	case !b.Unsynced:
	case have != nil:
		b.Stream.PersistMode, b.Stream.AllowAtomicPublish = have.PersistMode, have.AllowAtomicPublish
	case b.Stream.Replicas <= 1 && nc.ConnectedClusterName() == "":
		b.Stream.PersistMode, b.Stream.AllowAtomicPublish = natsjs.AsyncPersistMode, false
	}
	return b
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

// Replace deletes the streams that an earlier build made synced and that Apply would make unsynced, if all their messages are
// acknowledged. It is for a process that has NATS to itself and starts.
func Replace(ctx context.Context, js natsjs.JetStream, inboxes ...Inbox) error {
	for _, b := range inboxes {
		if b.asMade(js.Conn(), nil).Stream.PersistMode != natsjs.AsyncPersistMode {
			continue
		}
		stream, err := js.Stream(ctx, b.Stream.Name)
		if errors.Is(err, natsjs.ErrStreamNotFound) {
			continue
		}
		done := false
		if err == nil && stream.CachedInfo().Config.PersistMode != natsjs.AsyncPersistMode {
			done, err = b.done(ctx, stream)
		}
		if err == nil && done {
			err = js.DeleteStream(ctx, b.Stream.Name)
		}
		if err != nil {
			return fmt.Errorf("replace stream %s: %w", b.Stream.Name, err)
		}
	}
	return nil
}

// done reports whether the consumers have acknowledged all messages of the stream.
func (b Inbox) done(ctx context.Context, stream natsjs.Stream) (bool, error) {
	for _, c := range b.Consumers {
		consumer, err := stream.Consumer(ctx, c.Durable)
		if errors.Is(err, natsjs.ErrConsumerNotFound) {
			return false, nil // Of an earlier build; which messages it would have taken is not known.
		}
		if err != nil {
			return false, err
		}
		if at := consumer.CachedInfo(); at.NumPending > 0 || at.NumAckPending > 0 {
			return false, nil
		}
	}
	return true, nil
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
		stream, err = create(ctx, js, b.asMade(js.Conn(), nil).Stream)
		if errors.Is(err, natsjs.ErrStreamNameAlreadyInUse) { // Another process was quicker, and wants something else.
			stream, err = js.Stream(ctx, b.Stream.Name)
		}
	}
	if err != nil {
		return err
	}
	have := stream.CachedInfo().Config
	want := b.asMade(js.Conn(), &have).Stream
	if same(have, want) {
		return nil
	}
	if want.PersistMode == natsjs.AsyncPersistMode && want.Replicas > 1 {
		return fmt.Errorf("NATS cannot replicate a stream of persist_mode async: stop fan-out, let the workers empty the stream, stop them, "+
			"delete it (nats stream rm %s) and apply again", want.Name)
	}
	_, err = js.UpdateStream(ctx, overlay(have, want))
	return err
}

// storeFailed is NATS' error that the files of a stream cannot be made.
const storeFailed natsjs.ErrorCode = 10049

// create creates a stream. While NATS still removes the files of one of the same name that was deleted, it cannot make those of
// the new one: for up to a second that is tried again.
func create(ctx context.Context, js natsjs.JetStream, cfg natsjs.StreamConfig) (natsjs.Stream, error) {
	const tries, pause = 50, 20 * time.Millisecond
	for try := 1; ; try++ {
		stream, err := js.CreateStream(ctx, cfg)
		if failed, ok := errors.AsType[*natsjs.APIError](err); !ok || failed.ErrorCode != storeFailed || try == tries {
			return stream, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, err
		}
	}
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
