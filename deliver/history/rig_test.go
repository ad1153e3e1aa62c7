package history_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

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
	*servertest.House
	journal *ledger.Journal
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := servertest.NewHouse(t, ledger.Inbox(64<<20))
	return &house{h, ledger.NewJournal(h.Publisher(jetstream.PublisherConfig{}))}
}

// outcome writes an outcome of acme's and returns its delivery.
func (h *house) outcome(r *outcome.Record) uuid.UUID {
	h.T.Helper()
	if r.Delivery == uuid.Nil {
		r.Delivery = uuid.Must(uuid.NewV7())
	}
	r.Tenant, r.EventType, r.At = "acme", "order.created", time.Now()
	if err := h.journal.Write(h.T.Context(), []*outcome.Record{r}, ledger.TaskWaits); err != nil {
		h.T.Fatal(err)
	}
	return r.Delivery
}
