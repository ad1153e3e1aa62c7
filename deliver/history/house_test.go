package history

import (
	"context"
	"database/sql"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// must fails the test on an error.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// house is real servers, and a journal to write outcomes with.
type house struct {
	t       *testing.T
	js      natsjs.JetStream
	db      *sql.DB
	journal *ledger.Journal
	log     *slog.Logger
}

func newHouse(t *testing.T) *house {
	t.Helper()
	js := must(natsjs.New(servertest.Connect(t, servertest.NATS(t))))(t)
	if err := jetstream.Apply(t.Context(), js, ledger.Inbox(64<<20)); err != nil {
		t.Fatal(err)
	}
	publisher := must(jetstream.NewPublisher(js, jetstream.PublisherConfig{}))(t)
	return &house{t: t, js: js, db: servertest.Postgres(t), journal: ledger.NewJournal(publisher), log: slog.New(slog.DiscardHandler)}
}

// outcome writes an outcome of acme's and returns its delivery.
func (h *house) outcome(r *outcome.Record) uuid.UUID {
	h.t.Helper()
	if r.Delivery == uuid.Nil {
		r.Delivery = uuid.Must(uuid.NewV7())
	}
	r.Tenant, r.EventType, r.At = "acme", "order.created", time.Now()
	if err := h.journal.Write(h.t.Context(), []*outcome.Record{r}, ledger.TaskWaits); err != nil {
		h.t.Fatal(err)
	}
	return r.Delivery
}

// run lets something run until the test ends or stop is called.
func (h *house) run(run func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	var ended bool
	stop = func() error {
		cancel()
		if ended {
			return nil
		}
		ended = true
		return <-done
	}
	h.t.Cleanup(func() { _ = stop() })
	return stop
}

// eventually waits for what gives no signal.
func (h *house) eventually(what string, ok func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("waited for %s", what)
		}
	}
}
