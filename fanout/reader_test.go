package fanout_test

import (
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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

// A server that was just elected may not have taken in yet what the leader before it stored: what it lacks is gone only once it has led for
// a while.
func TestAnEventThatANewLeaderLacksIsNotGone(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	seq := h.Publish("events.acme.order.created", `{}`)
	nc := h.JS.Conn()
	var since atomic.Pointer[time.Time]
	elected, err := nc.Subscribe("elected.>", func(m *nats.Msg) { // Of the answers under this prefix, that on the stream is one of three servers.
		answer, err := nc.Request("$JS.API."+strings.TrimPrefix(m.Subject, "elected."), m.Data, time.Minute)
		if err != nil {
			t.Error(err)
			return
		}
		if strings.HasPrefix(m.Subject, "elected.STREAM.INFO.") {
			var info map[string]any
			if err := json.Unmarshal(answer.Data, &info); err != nil {
				t.Error(err)
			}
			info["config"].(map[string]any)["num_replicas"] = 3
			current := map[string]any{"current": true}
			info["cluster"] = map[string]any{"leader": "one", "leader_since": since.Load(), "replicas": []any{current, current}}
			if answer.Data, err = json.Marshal(info); err != nil {
				t.Error(err)
			}
		}
		_ = m.RespondMsg(&nats.Msg{Header: answer.Header, Data: answer.Data})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = elected.Unsubscribe() })
	js, err := natsjs.NewWithAPIPrefix(nc, "elected")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		led  time.Duration
		want error
	}{{time.Second, jetstream.ErrUnavailable}, {time.Hour, fanout.ErrGone}} {
		at := time.Now().Add(-tt.led)
		since.Store(&at)
		if _, err := fanout.NewReader(js).Read(t.Context(), seq+1); !errors.Is(err, tt.want) {
			t.Errorf("after %s as the leader: got %v, want %v", tt.led, err, tt.want)
		}
	}
}
