package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/quota"
	"github.com/fanfarehq/fanfare/internal/survive"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
)

const (
	// A reader that is behind by more than tailBuffer outcomes, or by more than tailBytes of them, is dropped: it is never
	// waited for. What is queued is what will be written, so that no reader keeps a whole message of outcomes in memory.
	tailBuffer = 1024
	tailBytes  = 1 << 20
	// tailBeat is how often a quiet tail says that it lives.
	tailBeat = 15 * time.Second
	// tailWrite bounds the writing of one outcome to a reader.
	tailWrite = 10 * time.Second
	// tailOpen bounds the beginning of a following.
	tailOpen = 5 * time.Second
	// tailMost is how many readers one process serves at once; the last tailAdmins of them are admins'.
	tailMost   = 100
	tailAdmins = 20
)

// Tail shows outcomes as they happen, to any number of readers: it follows the stream of outcomes once, while
// there are readers, and hands each what it asked for. What happened before is in the ledger.
type Tail struct {
	js     natsjs.JetStream
	log    *slog.Logger
	quotas *quota.Quotas
	keys   *tenantkeys.Keys // nil: outcomes are in the clear
	wanted chan *following  // to Run, which begins them

	mu        sync.Mutex
	ends      <-chan struct{} // closed when the process stops; nil before Run
	readers   map[*tailReader]bool
	following *following // nil while there are no readers
}

// following is one reading of the stream of outcomes.
type following struct {
	begun chan struct{} // closed once it reads, or cannot
	err   error         // why it cannot; read after begun is closed
	left  chan struct{} // closed when its last reader has left
}

// tailReader is a client that watches.
type tailReader struct {
	tenant       string
	admin        bool
	subscription uuid.UUID
	state        string
	outcomes     chan []byte   // as they are shown
	behind       atomic.Int64  // bytes of outcomes
	dropped      chan struct{} // closed when it is too slow
}

func newTailReader(tenant, state string) *tailReader {
	return &tailReader{tenant: tenant, state: state, outcomes: make(chan []byte, tailBuffer), dropped: make(chan struct{})}
}

// NewTail makes a Tail; its readers are served while Run runs.
func NewTail(js natsjs.JetStream, logger *slog.Logger) *Tail {
	return &Tail{js: js, log: logger, wanted: make(chan *following), readers: map[*tailReader]bool{}}
}

// SealWith has outcomes opened with the keys that sealed them. It is called before the Tail is served.
func (t *Tail) SealWith(keys *tenantkeys.Keys) { t.keys = keys }

// Limit bounds the readers of each tenant. It is called before the Tail is served.
func (t *Tail) Limit(q *quota.Quotas) { t.quotas = q }

// Run lets readers watch until ctx ends; then it sends them away.
func (t *Tail) Run(ctx context.Context) error {
	t.mu.Lock()
	t.ends = ctx.Done()
	t.mu.Unlock()
	var follows sync.WaitGroup
	defer follows.Wait()
	for {
		select {
		case f := <-t.wanted:
			follows.Go(func() { t.follow(ctx, f) })
		case <-ctx.Done():
			return nil
		}
	}
}

type tailInput struct {
	Subscription string `query:"subscription" format:"uuid" doc:"Only outcomes of this subscription" example:"0198c9d2-e7b3-7c1f-9a55-0d2f3c4b5a69"`
	State        string `query:"state" enum:"pending,delivered,dead,cancelled" doc:"Only outcomes that led to this state" example:"dead"`
}

// attemptEvent is an outcome as the tail shows it: the attempt, and whose it is.
type attemptEvent struct {
	Number       int             `json:"number" doc:"0 where no attempt was made"`
	StartedAt    time.Time       `json:"started_at"`
	DurationMS   int64           `json:"duration_ms"`
	Status       *int            `json:"status"`
	Error        *string         `json:"error"`
	Response     *string         `json:"response"`
	Outcome      outcome.Outcome `json:"outcome"`
	Reason       outcome.Reason  `json:"reason"`
	DeliveryID   uuid.UUID       `json:"delivery_id"`
	EventID      string          `json:"event_id"`
	EventType    string          `json:"event_type"`
	Subscription uuid.UUID       `json:"subscription_id"`
	Tenant       string          `json:"tenant"`
	State        string          `json:"state"`
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
	r := newTailReader(tenant, in.State)
	if in.Subscription != "" {
		if r.subscription, err = uuid.Parse(in.Subscription); err != nil {
			return nil, api.Invalid(api.At("query.subscription", "must be a UUID"))
		}
	}
	caller := api.CallerFrom(ctx)
	r.admin = caller.Admin
	leave, err := t.quotas.Enter(ownerOf(caller), quota.Tails)
	if err != nil {
		return nil, err
	}
	ends, err := t.join(ctx, r)
	if err != nil {
		leave()
		return nil, err
	}
	return &huma.StreamResponse{Body: func(out huma.Context) {
		defer leave()
		defer t.leave(r)
		out.SetHeader("Content-Type", "text/event-stream")
		out.SetHeader("Cache-Control", "no-store")
		out.SetHeader("X-Accel-Buffering", "no")
		t.write(ctx, ends, r, out)
	}}, nil
}

// ownerOf is whose tails are counted: a tenant's, or those of an operator's key, which has the limit of a tenant without one of its
// own. No tenant's name has a blank. An admin's are not counted.
func ownerOf(c api.Caller) string {
	if c.AllTenants {
		return "key " + c.KeyID
	}
	return c.Tenant
}

// errTailEnds refuses a reader while the process stops.
var errTailEnds = errors.New("the process stops")

// errManyReaders refuses a reader beyond tailMost.
var errManyReaders = errors.New("too many tails are open")

// join adds a reader; the first one begins the following. The broker is waited for without the lock, so that a broker that is
// away delays the readers of this following only.
func (t *Tail) join(ctx context.Context, r *tailReader) (ends <-chan struct{}, err error) {
	ends, f, err := t.add(r)
	if err != nil {
		return nil, err
	}
	select {
	case <-f.begun:
		err = f.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		t.leave(r)
		return nil, api.Unavailable(err)
	}
	return ends, nil
}

// add counts a reader in, and has Run begin a following if there is none.
func (t *Tail) add(r *tailReader) (ends <-chan struct{}, f *following, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ends == nil || ended(t.ends) {
		return nil, nil, api.Unavailable(errTailEnds)
	}
	most := tailMost
	if !r.admin {
		most -= tailAdmins
	}
	if len(t.readers) >= most {
		return nil, nil, api.Unavailable(errManyReaders)
	}
	if t.following == nil {
		f := &following{begun: make(chan struct{}), left: make(chan struct{})}
		select {
		case t.wanted <- f:
			t.following = f
		case <-t.ends:
			return nil, nil, api.Unavailable(errTailEnds)
		}
	}
	t.readers[r] = true
	return t.ends, t.following, nil
}

func ended(ends <-chan struct{}) bool {
	select {
	case <-ends:
		return true
	default:
		return false
	}
}

// leave removes a reader; the last one ends the following.
func (t *Tail) leave(r *tailReader) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.readers, r)
	if len(t.readers) == 0 && t.following != nil {
		close(t.following.left)
		t.following = nil
	}
}

// follow hands outcomes to readers until ctx ends or they have left. A following that cannot begin is given up, for the next reader to try.
func (t *Tail) follow(ctx context.Context, f *following) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-f.left:
			stop()
		case <-ctx.Done():
		}
	}()
	var messages natsjs.MessagesContext
	err := survive.Do(func() (err error) {
		messages, err = t.open(ctx)
		return err
	})
	if err != nil {
		t.mu.Lock()
		if t.following == f {
			t.following = nil
		}
		t.mu.Unlock()
		f.err = err
		close(f.begun)
		return
	}
	close(f.begun)
	defer context.AfterFunc(ctx, messages.Stop)()
	for {
		msg, err := messages.Next()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, natsjs.ErrMsgIteratorClosed) {
				t.log.WarnContext(ctx, "cannot follow outcomes, retrying", "error", err)
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
				continue
			}
			messages.Stop()
			return
		}
		if err := survive.Do(func() error { return t.show(ctx, f, msg.Data()) }); err != nil {
			t.log.ErrorContext(ctx, "outcomes not shown to tails", "error", err)
		}
	}
}

// show hands the outcomes of a message to the readers of a following.
func (t *Tail) show(ctx context.Context, f *following, data []byte) error {
	records, err := outcome.Unpack(data)
	if err != nil {
		return nil // The recorder puts it into quarantine.
	}
	t.hand(ctx, f, records)
	return nil
}

// open begins to read new outcomes. None is acknowledged: the outcomes that a tail misses are in the ledger.
func (t *Tail) open(ctx context.Context) (natsjs.MessagesContext, error) {
	started, cancel := context.WithTimeout(ctx, tailOpen)
	defer cancel()
	consumer, err := t.js.OrderedConsumer(started, ledger.Stream, natsjs.OrderedConsumerConfig{DeliverPolicy: natsjs.DeliverNewPolicy})
	if err != nil {
		return nil, fmt.Errorf("follow outcomes: %w", err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return nil, fmt.Errorf("follow outcomes: %w", err)
	}
	return messages, nil
}

// hand queues records of a following for the readers that want them, and drops the readers that are too far behind.
func (t *Tail) hand(ctx context.Context, f *following, records []*outcome.Record) {
	t.mu.Lock()
	if t.following != f {
		t.mu.Unlock()
		return // Its readers are gone; those of the next following get their outcomes from that one.
	}
	readers := slices.Collect(maps.Keys(t.readers))
	t.mu.Unlock()
	var slow []*tailReader
	for _, rec := range records {
		var shown []byte // made once, if a reader wants it
		for _, r := range readers {
			if !rec.Valid() || !r.wants(rec) || slices.Contains(slow, r) {
				continue
			}
			if shown == nil {
				shown = t.shown(ctx, rec)
			}
			if !r.take(shown) {
				slow = append(slow, r)
			}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range slow {
		if t.readers[r] {
			delete(t.readers, r)
			close(r.dropped)
		}
	}
}

// shown is the data of the record's event. An answer whose key cannot be had is left out: nothing waits for a tail.
func (t *Tail) shown(ctx context.Context, r *outcome.Record) []byte {
	if a := r.Attempt; a != nil {
		if err := a.Open(ctx, t.keys, r.Tenant, r.Delivery); err != nil {
			a.Error, a.Response = "", nil
		}
	}
	data, err := json.Marshal(attemptOf(r))
	if err != nil { // A time whose year has five digits.
		return []byte("{}")
	}
	return data
}

// take queues an outcome. It is refused if the reader is behind by tailBuffer outcomes or by more than tailBytes.
func (r *tailReader) take(shown []byte) bool {
	if behind := r.behind.Add(int64(len(shown))); behind > tailBytes && behind > int64(len(shown)) {
		return false
	}
	select {
	case r.outcomes <- shown:
		return true
	default:
		return false
	}
}

func (r *tailReader) wants(rec *outcome.Record) bool {
	return (r.tenant == "" || r.tenant == rec.Tenant) && (r.subscription == uuid.Nil || r.subscription == rec.Subscription) &&
		(r.state == "" || r.state == rec.State())
}

// write writes outcomes to one reader until it goes, is too slow, or the process stops.
func (t *Tail) write(ctx context.Context, ends <-chan struct{}, r *tailReader, out huma.Context) {
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
		case shown := <-r.outcomes:
			r.behind.Add(-int64(len(shown)))
			going = say("event: attempt\ndata: %s\n\n", shown)
		case <-beat.C:
			going = say(": beat\n\n")
		case <-r.dropped:
			say("event: dropped\ndata: {}\n\n")
			return
		case <-ctx.Done():
			return
		case <-ends:
			return
		}
	}
}

// attemptOf is the event that a record becomes.
func attemptOf(r *outcome.Record) attemptEvent {
	a := attemptEvent{
		StartedAt: r.At.UTC(), Outcome: r.Outcome, Reason: r.Reason, DeliveryID: r.Delivery, EventID: r.EventID, EventType: r.EventType,
		Subscription: r.Subscription, Tenant: r.Tenant, State: r.State(),
	}
	if m := r.Attempt; m != nil {
		shown := AttemptEntry{Made: *m, Outcome: r.Outcome}.json()
		a.Number, a.StartedAt, a.DurationMS = shown.Number, shown.StartedAt, shown.DurationMS
		a.Status, a.Error, a.Response = shown.Status, shown.Error, shown.Response
	}
	return a
}
