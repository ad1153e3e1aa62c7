package jetstream_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// Whatever a message holds, it is either refused or comes out as it went in, but for line breaks and outer spaces of
// values and for the headers that are the broker's.
func TestHeadersRoundTrip(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	apply(t, js, inbox())
	pubs := map[bool]*jetstream.Publisher{
		true:  newPublisher(t, js, jetstream.PublisherConfig{Dedupe: true}),
		false: newPublisher(t, js, jetstream.PublisherConfig{}),
	}
	msgs, err := newSubscriber(t, js, jetstream.SubscriberConfig{}).Subscribe(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	key := rapid.OneOf(rapid.StringMatching(`[A-Za-z0-9_-]{1,20}`), rapid.SampledFrom([]string{
		"traceparent", "Nats-Rollup", "Nats-Msg-Id", "Nats-Expected-Stream", "Status", "ce-id", "Watermill-Uuid", "", "a b", "a:b", "ä", "a\r\nb",
	}), rapid.String())
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		in := &message.Message{
			UUID:     rapid.StringMatching(`[a-z]{0,8}`).Draw(t, "uuid"),
			Metadata: rapid.MapOfN(key, rapid.String(), 0, 6).Draw(t, "metadata"),
			Payload:  rapid.SliceOf(rapid.Byte()).Draw(t, "payload"),
		}
		if in.UUID != "" {
			in.UUID += string(rune('0' + n%10)) // dedupe is not what this is about
		}
		dedupe := rapid.Bool().Draw(t, "dedupe")
		ack, err := pubs[dedupe].Send(t.Context(), subject, in)
		if err != nil {
			if valid(in.Metadata) {
				t.Fatalf("refused: %v", err)
			}
			return
		}
		if ack.Duplicate {
			return
		}
		out := <-msgs
		defer out.Ack()
		if out.UUID != in.UUID || string(out.Payload) != string(in.Payload) {
			t.Fatalf("got %q %q, want %q %q", out.UUID, out.Payload, in.UUID, in.Payload)
		}
		if want := expected(in.Metadata); !maps.Equal(out.Metadata, want) {
			t.Fatalf("got %q, want %q", out.Metadata, want)
		}
	})
}

func valid(metadata message.Metadata) bool {
	for key := range metadata {
		bad := strings.ContainsFunc(key, func(r rune) bool {
			return r <= ' ' || r > '~' || strings.ContainsRune(`"()/,:;<=>?@[\]{}`, r)
		})
		if key == "" || bad && !strings.HasPrefix(key, "Nats-") {
			return false
		}
	}
	return true
}

func expected(in message.Metadata) message.Metadata {
	want := message.Metadata{}
	for key, value := range in {
		if !strings.HasPrefix(key, "Nats-") && key != "Watermill-Uuid" {
			want[key] = strings.NewReplacer("\r", " ", "\n", " ").Replace(strings.Trim(value, " \t\r\n"))
		}
	}
	return want
}

// Any NATS client may publish, with any headers.
func TestForeignHeaders(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	apply(t, js, inbox())
	msgs, err := newSubscriber(t, js, jetstream.SubscriberConfig{}).Subscribe(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		header nats.Header
		uuid   string
		want   message.Metadata
	}{
		{"none", nil, "", message.Metadata{}},
		{"id", nats.Header{"Nats-Msg-Id": {"acme.1"}}, "acme.1", message.Metadata{}},
		{"id and uuid", nats.Header{"Nats-Msg-Id": {"acme.2"}, "Watermill-Uuid": {"x"}}, "acme.2", message.Metadata{}},
		{"several values", nats.Header{"k": {"a", "b", ""}, "ce-id": {"1"}}, "", message.Metadata{"k": "a,b,", "ce-id": "1"}},
		{"no value", nats.Header{"k": {}, "e": {""}}, "", message.Metadata{"e": ""}},
		{"what looks like a status", nats.Header{"Status": {"409"}, "Description": {"Consumer Deleted"}}, "",
			message.Metadata{"Status": "409", "Description": "Consumer Deleted"}},
	}
	for _, tt := range tests {
		if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: tt.header}); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		got := <-msgs
		got.Ack()
		if got.UUID != tt.uuid || !maps.Equal(got.Metadata, tt.want) {
			t.Errorf("%s: got %q %q, want %q %q", tt.name, got.UUID, got.Metadata, tt.uuid, tt.want)
		}
	}
}
