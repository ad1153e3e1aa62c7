package fanout_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/fanout/fanouttest"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// The newest events of a type are read, and a schema that refuses one of them is refused.
func TestASchemaIsHeldAgainstRecentEvents(t *testing.T) {
	t.Parallel()
	broker := servertest.NATS(t)
	h := fanouttest.NewOn(t, servertest.Connect(t, broker))
	h.Run()
	for i := range 30 {
		h.Publish("events.acme.order", fmt.Sprintf(`{"n":%d}`, i), "Fanfare-Id", fmt.Sprint("o", i))
	}
	h.Publish("events.acme.other", `{"n":"text"}`, "Fanfare-Id", "other")
	h.Publish("events.globex.order", `{"n":"text"}`, "Fanfare-Id", "theirs")
	h.Settled()
	f := &fates{}
	recent := fanout.NewRecent(h.Ledger, fanout.NewReader(h.JS), f)
	read := func(tenant string, most int) string {
		t.Helper()
		var ids []string
		err := recent.Each(t.Context(), tenant, "order", func(e *event.Event) bool {
			ids = append(ids, e.ID)
			return len(ids) < most
		})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(len(ids), " ", strings.Contains(strings.Join(ids, " "), "theirs"), " ", strings.Contains(strings.Join(ids, " "), "other"))
	}
	for _, test := range []struct {
		tenant string
		most   int
		want   string
	}{{"acme", 100, "30 false false"}, {"acme", 12, "12 false false"}, {"", 100, "31 true false"}, {"globex", 100, "1 true false"}, {"nobody", 100, "0 false false"}} {
		if got := read(test.tenant, test.most); got != test.want {
			t.Errorf("%d of tenant %q: got %s, want %s", test.most, test.tenant, got, test.want)
		}
	}
	desk := fanouttest.NewDesk(t, func(to huma.API) { subscriptions.Routes(to, h.Store, recent) })
	for _, body := range []map[string]any{{"name": "order", "tenant": "acme"}, {"name": "order"}} {
		desk.Call("admin", "POST", "/v1/event-types", body, http.StatusCreated, nil)
	}
	schema := func(kind string) map[string]any {
		return map[string]any{"schema": map[string]any{"properties": map[string]any{"n": map[string]any{"type": kind}}}}
	}
	desk.Call("admin", "PATCH", "/v1/event-types/order?tenant=acme", schema("integer"), http.StatusOK, nil)
	var p api.Problem
	desk.Call("admin", "PATCH", "/v1/event-types/order", schema("integer"), http.StatusConflict, &p)
	if len(p.Errors) != 1 || p.Errors[0].Location != "event.theirs.data.n" {
		t.Errorf("got %+v", p)
	}
	// Without the broker nothing can be told; who means to break something need not wait for it.
	lost := servertest.Connect(t, broker)
	js, err := natsjs.New(lost)
	if err != nil {
		t.Fatal(err)
	}
	away := fanout.NewRecent(h.Ledger, fanout.NewReader(js), f)
	lost.Close()
	alone := fanouttest.NewDesk(t, func(to huma.API) { subscriptions.Routes(to, h.Store, away) })
	var failed interface{ Unavailable() bool }
	err = away.Each(t.Context(), "acme", "order", func(*event.Event) bool { return true })
	if !errors.Is(err, jetstream.ErrUnavailable) && !errors.As(err, &failed) {
		t.Errorf("without the broker: %v", err)
	}
	alone.Call("admin", "PATCH", "/v1/event-types/order?breaking=true", schema("integer"), http.StatusOK, nil)
}
