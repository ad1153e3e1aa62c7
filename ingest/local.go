package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
)

const (
	// localBatch and localBatchBytes bound what goes into the stream at once, and so how long an event of another
	// publisher waits for it.
	localBatch, localBatchBytes = 256, 1 << 20
	// localBehind is how many events fan-out may have before it until local publishers are slowed down.
	localBehind = 1024
	// localSlowest is how long a batch of local publishers waits at most: they go on while fan-out stands still.
	localSlowest = 250 * time.Millisecond
	// localLook is how old the knowledge of fan-out may be, and how long is waited for the next.
	localLook = 10 * time.Millisecond
	// localRate is how many bytes a second local publishers store: the broker holds the bytes of the last ten seconds
	// in memory.
	localRate = 8 << 20
	// localTimeout bounds the storing of one batch.
	localTimeout = 10 * time.Second
)

// Local takes events in from NATS clients of this machine that have no credentials, and puts them into the stream
// fairly by tenant. They get the acknowledgements that the stream gives. What does not fit is refused.
type Local struct {
	nc     *nats.Conn
	prefix string // of their subjects
	to     *jetstream.Publisher
	behind func(context.Context) (int, error)
	queue  *localQueue
	taken  prometheus.Counter
	denied *prometheus.CounterVec

	looked time.Time // when fan-out was last asked for
	lag    int       // its backlog then, plus messages stored since
	paid   time.Time // when the bytes that were stored are within the rate
}

// LocalDeps are what a Local works with.
type LocalDeps struct {
	Conn   *nats.Conn // of its own, which a flood may fill
	Prefix string     // comes before the events' subjects
	// Publisher is one without Dedupe. Fan-out finds repeats by their ids; the stream would take one tenant's message
	// for a repeat of another's, and refuse whole batches because of one.
	Publisher *jetstream.Publisher
	Behind    func(context.Context) (int, error) // how many events fan-out has before it
	Metrics   prometheus.Registerer
}

// NewLocal makes a Local.
func NewLocal(deps LocalDeps) *Local {
	l := &Local{
		nc: deps.Conn, prefix: deps.Prefix, to: deps.Publisher, behind: deps.Behind, queue: newLocalQueue(),
		taken: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fanfare_local_accepted_total", Help: "Events of NATS clients without credentials that were put on disk."}),
		denied: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fanfare_local_refused_total", Help: "Events of NATS clients without credentials that were refused, by reason."}, []string{"reason"}),
	}
	deps.Metrics.MustRegister(l.taken, l.denied)
	return l
}

// Run takes events in until ctx ends. Those that wait then are refused.
func (l *Local) Run(ctx context.Context) error {
	sub, err := l.nc.Subscribe(l.prefix+event.SubjectPrefix+">", l.receive)
	if err != nil {
		return fmt.Errorf("take events of local publishers: %w", err)
	}
	// receive keeps up with all messages: the queue bounds the waiting ones.
	if err := sub.SetPendingLimits(-1, localBytes); err != nil {
		return fmt.Errorf("bound events of local publishers: %w", err)
	}
	for {
		batch, err := l.queue.next(ctx)
		if err != nil {
			break
		}
		l.pace(ctx)
		l.store(batch)
	}
	if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		return fmt.Errorf("stop taking events of local publishers: %w", err)
	}
	for _, m := range l.queue.close() {
		l.refuse(m, http.StatusServiceUnavailable, "stopping", "Fanfare stops")
	}
	return nil
}

// receive queues a message, or refuses it.
func (l *Local) receive(m *nats.Msg) {
	m.Subject = strings.TrimPrefix(m.Subject, l.prefix)
	tenant, _, _ := event.SplitSubject(m.Subject)
	if !l.queue.add(tenant, m) {
		l.refuse(m, http.StatusServiceUnavailable, "crowded", "too many messages of this tenant wait: send it again later")
	}
}

// pace waits while fan-out is behind. Its place in the stream is common to all tenants, so events that are far ahead of it
// delay everybody's.
func (l *Local) pace(ctx context.Context) {
	l.wait(ctx, time.Until(l.paid))
	until := time.Now().Add(localSlowest)
	for {
		now := time.Now()
		if now.Sub(l.looked) >= localLook {
			n, err := l.behind(ctx)
			if err != nil {
				n = localBehind + 1 // It is not known.
			}
			l.lag, l.looked = n, now
		}
		if l.lag <= localBehind || now.After(until) {
			return
		}
		if !l.wait(ctx, localLook) {
			return
		}
	}
}

// wait waits, unless the context ends.
func (l *Local) wait(ctx context.Context, so time.Duration) bool {
	if so <= 0 {
		return true
	}
	timer := time.NewTimer(so)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// store puts a batch into the stream and acknowledges it.
func (l *Local) store(batch []*nats.Msg) {
	out := make([]jetstream.Outgoing, len(batch))
	for i, m := range batch {
		msg := jetstream.Received(m)
		event.Untrust(msg.Metadata)
		out[i] = jetstream.Outgoing{Subject: m.Subject, Message: msg}
	}
	ctx, cancel := context.WithTimeout(context.Background(), localTimeout)
	defer cancel()
	l.to.SendAll(ctx, out)
	l.lag += len(out)
	l.pay(batch)
	for i, m := range batch {
		switch err := out[i].Err; {
		case errors.Is(err, jetstream.ErrTooLarge):
			l.refuse(m, http.StatusBadRequest, string(event.TooLarge), "the message is larger than the broker takes")
		case err != nil:
			l.refuse(m, http.StatusServiceUnavailable, reasonUnstored, unstoredDetail(err))
		default:
			l.taken.Inc()
			l.answer(m, localAnswer{Stream: fanout.Stream, Sequence: out[i].Ack.Sequence})
		}
	}
}

// pay takes the bytes of a batch from the rate.
func (l *Local) pay(batch []*nats.Msg) {
	bytes := 0
	for _, m := range batch {
		bytes += m.Size()
	}
	if now := time.Now(); l.paid.Before(now) {
		l.paid = now
	}
	l.paid = l.paid.Add(time.Duration(bytes) * time.Second / localRate)
}

// localAnswer is the acknowledgement of JetStream, as its clients know it.
type localAnswer struct {
	Error    *natsjs.APIError `json:"error,omitempty"`
	Stream   string           `json:"stream,omitempty"`
	Sequence uint64           `json:"seq,omitempty"`
}

func (l *Local) refuse(m *nats.Msg, code int, reason, detail string) {
	l.denied.WithLabelValues(reason).Inc()
	l.answer(m, localAnswer{Error: &natsjs.APIError{Code: code, Description: detail}})
}

// answer answers a message whose sender waits for that. An answer that gets lost is as one that the stream gave.
func (l *Local) answer(m *nats.Msg, a localAnswer) {
	if m.Reply == "" {
		return
	}
	if text, err := json.Marshal(a); err == nil {
		_ = l.nc.Publish(m.Reply, text)
	}
}
