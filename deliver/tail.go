package deliver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/api"
)

const (
	// tailBuffer is how many outcomes a reader may be behind before it is dropped: it is never waited for.
	tailBuffer = 1024
	// tailBeat is how often a quiet tail says that it lives.
	tailBeat = 15 * time.Second
	// tailWrite bounds the writing of one outcome to a reader.
	tailWrite = 10 * time.Second
	// tailMost is how many readers one process serves at once.
	tailMost = 100
)

// Tail shows outcomes as they happen, to any number of readers: it follows the stream of outcomes once, while
// there are readers, and hands each what it asked for. What happened before is in the ledger.
type Tail struct {
	js   natsjs.JetStream
	log  *slog.Logger
	ends context.Context // with the process

	mu      sync.Mutex
	readers map[*tailReader]bool
	stop    context.CancelFunc // ends the following; nil while there are no readers
	follows sync.WaitGroup
}

// tailReader is somebody who watches.
type tailReader struct {
	tenant       string
	subscription uuid.UUID
	state        string
	outcomes     chan *Record
	dropped      chan struct{} // closed when it is too slow
}

// NewTail makes a Tail; its readers are served while Run runs.
func NewTail(js natsjs.JetStream, logger *slog.Logger) *Tail {
	return &Tail{js: js, log: logger, readers: map[*tailReader]bool{}}
}

// Run lets readers watch until ctx ends; then it sends them away.
func (t *Tail) Run(ctx context.Context) error {
	t.mu.Lock()
	t.ends = ctx
	t.mu.Unlock()
	<-ctx.Done()
	t.follows.Wait()
	return nil
}

type tailInput struct {
	Subscription string `query:"subscription" format:"uuid" doc:"Only outcomes of this subscription" example:"0198c9d2-e7b3-7c1f-9a55-0d2f3c4b5a69"`
	State        string `query:"state" enum:"pending,delivered,dead,cancelled" doc:"Only outcomes that led to this state" example:"dead"`
}

// attemptEvent is an outcome as the tail shows it: the attempt, and whose it is.
type attemptEvent struct {
	Number       int       `json:"number" doc:"0 where no attempt was made"`
	StartedAt    time.Time `json:"started_at"`
	DurationMS   int64     `json:"duration_ms"`
	Status       *int      `json:"status"`
	Error        *string   `json:"error"`
	Response     *string   `json:"response"`
	Outcome      Outcome   `json:"outcome"`
	Reason       Reason    `json:"reason"`
	DeliveryID   uuid.UUID `json:"delivery_id"`
	EventID      string    `json:"event_id"`
	EventType    string    `json:"event_type"`
	Subscription uuid.UUID `json:"subscription_id"`
	Tenant       string    `json:"tenant"`
	State        string    `json:"state"`
}

// Register adds the tail to an API.
func (t *Tail) Register(to huma.API) {
	op := huma.Operation{
		OperationID: "tail", Method: http.MethodGet, Path: "/v1/tail", Tags: []string{"Deliveries"},
		Summary: "Watch outcomes as they happen",
		Description: "Server-sent events: `event: attempt`, with the attempt and its delivery as data. A reader that cannot keep up " +
			"is told so by `event: dropped`, and sent away; nothing waits for it.",
		Responses: map[string]*huma.Response{"200": {
			Description: "OK", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}},
	}
	api.Scope("deliveries:read")(&op)
	huma.Register(to, op, t.serve)
}

func (t *Tail) serve(ctx context.Context, in *tailInput) (*huma.StreamResponse, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return nil, err
	}
	r := &tailReader{tenant: tenant, state: in.State, outcomes: make(chan *Record, tailBuffer), dropped: make(chan struct{})}
	if in.Subscription != "" {
		if r.subscription, err = uuid.Parse(in.Subscription); err != nil {
			return nil, api.Invalid(api.At("query.subscription", "is no id"))
		}
	}
	ends, err := t.join(r)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(out huma.Context) {
		defer t.leave(r)
		out.SetHeader("Content-Type", "text/event-stream")
		out.SetHeader("Cache-Control", "no-store")
		out.SetHeader("X-Accel-Buffering", "no")
		t.write(ctx, ends, r, out)
	}}, nil
}

// errManyReaders says that as many watch as may.
var errManyReaders = errors.New("as many watch as may")

// join adds a reader; the first one begins the following.
func (t *Tail) join(r *tailReader) (ends context.Context, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ends == nil || t.ends.Err() != nil {
		return nil, api.Unavailable(errStopping)
	}
	if len(t.readers) >= tailMost {
		return nil, api.Unavailable(errManyReaders)
	}
	if t.stop == nil {
		ctx, stop := context.WithCancel(t.ends)
		started, cancel := context.WithTimeout(ctx, readTimeout)
		defer cancel()
		// New outcomes only, and none is acknowledged: what a tail misses is in the ledger.
		consumer, err := t.js.OrderedConsumer(started, AttemptsStream, natsjs.OrderedConsumerConfig{DeliverPolicy: natsjs.DeliverNewPolicy})
		if err != nil {
			stop()
			return nil, api.Unavailable(fmt.Errorf("watch outcomes: %w", err))
		}
		messages, err := consumer.Messages()
		if err != nil {
			stop()
			return nil, api.Unavailable(fmt.Errorf("watch outcomes: %w", err))
		}
		t.stop = stop
		t.follows.Go(func() { t.follow(ctx, messages) })
	}
	t.readers[r] = true
	return t.ends, nil
}

// leave removes a reader; the last one ends the following.
func (t *Tail) leave(r *tailReader) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.readers, r)
	if len(t.readers) == 0 && t.stop != nil {
		t.stop()
		t.stop = nil
	}
}

// follow hands outcomes to readers until ctx ends.
func (t *Tail) follow(ctx context.Context, messages natsjs.MessagesContext) {
	defer context.AfterFunc(ctx, messages.Stop)()
	for {
		msg, err := messages.Next()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, natsjs.ErrMsgIteratorClosed) {
				t.log.WarnContext(ctx, "outcomes cannot be watched", "error", err)
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
				continue
			}
			messages.Stop()
			return
		}
		records, err := unpackRecords(msg.Data())
		if err != nil {
			continue // The recorder puts it into quarantine.
		}
		t.hand(records)
	}
}

func (t *Tail) hand(records []*Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for r := range t.readers {
		for _, rec := range records {
			if r.wants(rec) && !r.take(rec) {
				delete(t.readers, r)
				close(r.dropped)
				break
			}
		}
	}
}

func (r *tailReader) take(rec *Record) bool {
	select {
	case r.outcomes <- rec:
		return true
	default:
		return false
	}
}

func (r *tailReader) wants(rec *Record) bool {
	return (r.tenant == "" || r.tenant == rec.Tenant) && (r.subscription == uuid.Nil || r.subscription == rec.Subscription) &&
		(r.state == "" || r.state == rec.state())
}

// state is what the record made of its delivery.
func (r *Record) state() string {
	if r.Outcome == OutcomeLater {
		return statePending
	}
	return string(r.Outcome)
}

// write writes outcomes to one reader until it goes, is too slow, or the process stops.
func (t *Tail) write(ctx, ends context.Context, r *tailReader, out huma.Context) {
	w, ok := out.BodyWriter().(http.ResponseWriter)
	if !ok {
		return // It is no request over HTTP.
	}
	control := http.NewResponseController(w)
	say := func(format string, args ...any) bool {
		// Not every kind of connection knows deadlines; then the buffer alone bounds a reader.
		_ = control.SetWriteDeadline(time.Now().Add(tailWrite))
		if _, err := fmt.Fprintf(w, format, args...); err != nil {
			return false
		}
		return control.Flush() == nil
	}
	beat := time.NewTicker(tailBeat)
	defer beat.Stop()
	for going := say(": watching\n\n"); going; {
		select {
		case rec := <-r.outcomes:
			data, err := json.Marshal(rec.attemptEvent())
			going = err == nil && say("event: attempt\ndata: %s\n\n", data)
		case <-beat.C:
			going = say(": beat\n\n")
		case <-r.dropped:
			say("event: dropped\ndata: {}\n\n")
			return
		case <-ctx.Done():
			return
		case <-ends.Done():
			return
		}
	}
}

func (r *Record) attemptEvent() attemptEvent {
	a := attemptEvent{
		StartedAt: r.At.UTC(), Outcome: r.Outcome, Reason: r.Reason, DeliveryID: r.Delivery, EventID: r.EventID, EventType: r.EventType,
		Subscription: r.Subscription, Tenant: r.Tenant, State: r.state(),
	}
	if m := r.Attempt; m != nil {
		shown := attemptEntry{Made: *m, Outcome: r.Outcome}.json()
		a.Number, a.StartedAt, a.DurationMS = shown.Number, shown.StartedAt, shown.DurationMS
		a.Status, a.Error, a.Response = shown.Status, shown.Error, shown.Response
	}
	return a
}
