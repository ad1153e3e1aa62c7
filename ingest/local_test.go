package ingest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/ingest"
	"github.com/fanfarehq/fanfare/internal/embedded"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// localHouse is the way in of local publishers, and one of them.
type localHouse struct {
	*testing.T
	stream natsjs.Stream
	guest  *nats.Conn
	to     *jetstream.Publisher // that of HTTP
}

// newLocal runs the way in; behind is how many events fan-out has before it.
func newLocal(t *testing.T, behind int) *localHouse {
	t.Helper()
	server := servertest.NATS(t, servertest.Listen, func(cfg *embedded.NATSConfig) { cfg.LocalPublish = true })
	js, err := natsjs.New(servertest.Connect(t, server))
	if err != nil {
		t.Fatal(err)
	}
	if err := jetstream.Apply(t.Context(), js, fanout.Inbox(24*time.Hour, 1<<30)); err != nil {
		t.Fatal(err)
	}
	h := &localHouse{T: t, to: publisher(t, js, true)}
	if h.stream, err = js.Stream(t.Context(), fanout.Stream); err != nil {
		t.Fatal(err)
	}
	own := servertest.Connect(t, server)
	local := ingest.NewLocal(ingest.LocalDeps{
		Conn: own, Prefix: embedded.LocalPrefix, Publisher: publisher(t, js, false), Metrics: prometheus.NewRegistry(),
		Behind: func(context.Context) (int, error) { return behind, nil },
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- local.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if h.guest, err = nats.Connect(server.ClientURL()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.guest.Close)
	h.await(own)
	return h
}

func publisher(t *testing.T, js natsjs.JetStream, dedupe bool) *jetstream.Publisher {
	t.Helper()
	p, err := jetstream.NewPublisher(js, jetstream.PublisherConfig{Dedupe: dedupe})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// await returns once the way in is open.
func (h *localHouse) await(own *nats.Conn) {
	h.Helper()
	for deadline := time.Now().Add(time.Minute); own.NumSubscriptions() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			h.Fatal("nobody takes events of local publishers")
		}
	}
	if err := own.Flush(); err != nil {
		h.Fatal(err)
	}
}

func (h *localHouse) publish(subject, data string, headers ...string) *natsjs.PubAck {
	h.Helper()
	js, err := natsjs.New(h.guest)
	if err != nil {
		h.Fatal(err)
	}
	msg := &nats.Msg{Subject: subject, Data: []byte(data), Header: nats.Header{}}
	for i := 0; i < len(headers); i += 2 {
		msg.Header[headers[i]] = []string{headers[i+1]}
	}
	ack, err := js.PublishMsg(h.Context(), msg)
	if err != nil {
		h.Fatal(err)
	}
	return ack
}

// A local publisher gets the acknowledgement of the stream, and is not trusted with what ingest would have checked.
func TestLocalPublishersAreAcknowledged(t *testing.T) {
	t.Parallel()
	h := newLocal(t, 0)
	ack := h.publish("events.acme.order.created", `{"total":1}`, "Fanfare-Id", "e1", "Fanfare-Checked", "1", "fanfare-test", "1", "Nats-Expected-Last-Sequence", "7")
	if ack.Stream != fanout.Stream || ack.Sequence != 1 {
		t.Fatalf("got %+v", ack)
	}
	raw, err := h.stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	e, refusal := event.Decode(event.Stored(raw))
	if refusal != nil || e.ID != "e1" || e.Tenant != "acme" || e.Type != "order.created" || string(e.Data) != `{"total":1}` {
		t.Errorf("got %+v, %v", e, refusal)
	}
	if e.Checked || e.Test {
		t.Error("a stranger's word is taken for that of ingest")
	}
}

// A message id of another tenant makes nobody's event a repeat. It is refused as before, once it is fanned out.
func TestLocalPublishersCannotUseOthersIDs(t *testing.T) {
	t.Parallel()
	h := newLocal(t, 0)
	forged := h.publish("events.evil.x", `1`, "Nats-Msg-Id", "acme.e1")
	e := &event.Event{ID: "e1", Tenant: "acme", Type: "order", Data: []byte("1"), Time: time.Now()}
	if _, duplicate, err := fanout.Send(t.Context(), h.to, e); err != nil || duplicate {
		t.Errorf("the event of the id's owner: duplicate %t, %v", duplicate, err)
	}
	raw, err := h.stream.GetMsg(t.Context(), forged.Sequence)
	if err != nil {
		t.Fatal(err)
	}
	w := event.Stored(raw)
	read, _ := event.Decode(w)
	if refusal := event.CheckMessageID(w, read); refusal == nil || refusal.Reason != event.MessageID {
		t.Errorf("the forged id: got %v", refusal)
	}
}

// A tenant that floods fills its part of the queue; another's event goes next, also while fan-out stands still.
func TestLocalPublishersAreServedInTurn(t *testing.T) {
	t.Parallel()
	h := newLocal(t, 1<<20)
	inbox := h.guest.NewInbox()
	answers, err := h.guest.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("1"), 200<<10)
	for range 200 {
		if err := h.guest.PublishRequest("events.loud.x", inbox, data); err != nil {
			t.Fatal(err)
		}
	}
	if ack := h.publish("events.quiet.x", `1`); ack.Sequence > 100 {
		t.Errorf("the event of another tenant is stored at %d", ack.Sequence)
	}
	for {
		m, err := answers.NextMsg(time.Minute)
		if err != nil {
			t.Fatal("nothing of the flood was refused")
		}
		var a struct{ Error *natsjs.APIError }
		if err := json.Unmarshal(m.Data, &a); err != nil {
			t.Fatal(err)
		}
		if a.Error != nil {
			if a.Error.Code != http.StatusServiceUnavailable || a.Error.Description == "" {
				t.Errorf("got %+v", a.Error)
			}
			return
		}
	}
}

// Local publishers fill no more than three quarters of the stream.
func TestLocalPublishersLeaveAQuarterOfTheStream(t *testing.T) {
	t.Parallel()
	server := servertest.NATS(t)
	js, err := natsjs.New(servertest.Connect(t, server))
	if err != nil {
		t.Fatal(err)
	}
	if err := jetstream.Apply(t.Context(), js, fanout.Inbox(24*time.Hour, 4<<20)); err != nil {
		t.Fatal(err)
	}
	if err := fanout.Reserve(js)(); err != nil {
		t.Errorf("an empty stream: %v", err)
	}
	noise := make([]byte, 700<<10)
	for range 5 {
		_, _ = rand.Read(noise)
		if _, err := js.Publish(t.Context(), "events.acme.x", noise); err != nil {
			t.Fatal(err)
		}
	}
	if err := fanout.Reserve(js)(); err == nil {
		t.Error("a stream that is more than three quarters full: no error")
	}
}

// A NATS client with credentials may use the message id of another tenant's event. That event is stored all the same.
func TestAForgedMessageIDHidesNoEvent(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	forge := func(subject, id, data string) {
		t.Helper()
		msg := &nats.Msg{Subject: subject, Data: []byte(data), Header: nats.Header{"Nats-Msg-Id": {id}}}
		if _, err := h.JS.PublishMsg(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	forge("events.evil.x", "acme.e1", `1`)
	forge("events.evil", "acme.e2", `broken`)
	forge("events.acme.order", "acme.e3", `3`)
	forge("events.acme.order", "acme.e4", `4`)
	for _, tt := range []struct {
		body      string
		status    int
		duplicate bool
	}{
		{`{"type":"order","data":1,"id":"e1"}`, http.StatusAccepted, false},
		{`{"type":"order","data":1,"id":"e2"}`, http.StatusAccepted, false},
		{`{"type":"order","data":3,"id":"e3"}`, http.StatusAccepted, true},
		{`{"type":"order","data":5,"id":"e4"}`, http.StatusConflict, false},
	} {
		a := h.post("acme", "/v1/events", tt.body)
		if a.status != tt.status || a.status == http.StatusAccepted && a.result(t).Duplicate != tt.duplicate {
			t.Errorf("%s: answered %d %s", tt.body, a.status, a.body)
		}
	}
	stored := map[string]bool{}
	for seq := uint64(1); ; seq++ {
		e, err := fanout.NewReader(h.JS).Read(t.Context(), seq)
		if errors.Is(err, fanout.ErrGone) && seq > 6 {
			break
		}
		if err == nil && e.Tenant == "acme" {
			stored[e.ID] = true
		}
	}
	if !stored["e1"] || !stored["e2"] {
		t.Errorf("stored are %v", stored)
	}
}
