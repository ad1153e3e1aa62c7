package fanout_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/fanout/fanouttest"
	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// A server that lost its disk answers reads before it has the stream again. What it lacks is not gone: the leader knows what is.
func TestAnEventThatAServerLacksIsNotGone(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	seqs := []uint64{h.Publish("events.acme.order.created", `{}`), h.Publish("events.acme.order.created", `{}`)}
	stream, err := h.JS.Stream(t.Context(), fanout.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.SecureDeleteMsg(t.Context(), seqs[0]); err != nil {
		t.Fatal(err)
	}
	// Of the requests under this prefix, reads are answered as such a server does; the rest reaches the leader.
	nc := h.JS.Conn()
	lags, err := nc.Subscribe("lags.>", func(m *nats.Msg) {
		if !strings.HasPrefix(m.Subject, "lags.DIRECT.GET.") {
			_ = nc.PublishRequest("$JS.API."+strings.TrimPrefix(m.Subject, "lags."), m.Reply, m.Data)
			return
		}
		_ = m.RespondMsg(&nats.Msg{Header: nats.Header{"Status": {"404"}, "Description": {"Message Not Found"}}})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lags.Unsubscribe() })
	js, err := natsjs.NewWithAPIPrefix(nc, "lags")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		seq  uint64
		want error
	}{
		{"deleted", seqs[0], fanout.ErrGone}, {"there", seqs[1], jetstream.ErrUnavailable}, {"not yet there", seqs[1] + 1, fanout.ErrGone},
	} {
		if _, err := fanout.NewReader(js).Read(t.Context(), tt.seq); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}
