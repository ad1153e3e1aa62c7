package embedded_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/embedded"
)

// house is an embedded server with a stream of events.
func house(t *testing.T, open bool) (*embedded.NATS, embedded.NATSConfig, jetstream.Stream) {
	t.Helper()
	cfg := embedded.NATSConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0", LocalPublish: open}
	n := startNATS(t, cfg)
	t.Cleanup(n.Shutdown)
	nc, err := n.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events.>", embedded.LocalPrefix + "events.>"}})
	if err != nil {
		t.Fatal(err)
	}
	return n, cfg, s
}

// client connects and collects what the server complains about.
func client(t *testing.T, url string, opts ...nats.Option) (*nats.Conn, <-chan error) {
	t.Helper()
	complaints := make(chan error, 16)
	nc, err := nats.Connect(url, append(opts, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { complaints <- err }))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc, complaints
}

func wantDenied(t *testing.T, what string, nc *nats.Conn, complaints <-chan error) {
	t.Helper()
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-complaints:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s: got %v", what, err)
		}
	case <-time.After(2 * time.Minute):
		t.Errorf("%s is allowed", what)
	}
}

// A client without credentials publishes events and gets its acknowledgements, with every header; that is all it may do.
func TestAStrangerMayPublishAndNothingElse(t *testing.T) {
	t.Parallel()
	n, _, s := house(t, true)
	nc, complaints := client(t, n.ClientURL())
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	msg := nats.NewMsg("events.acme.order.created")
	msg.Data = []byte(`{"total":12}`)
	msg.Header.Set("Nats-Msg-Id", "acme.1")
	for _, duplicate := range []bool{false, true} {
		ack, err := js.PublishMsg(t.Context(), msg)
		if err != nil || ack.Stream != "EVENTS" || ack.Sequence != 1 || ack.Duplicate != duplicate {
			t.Fatalf("got %+v, %v", ack, err)
		}
	}
	if err := nc.Publish("events.acme.order.paid", []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	deadline, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var raw *jetstream.RawStreamMsg
	for raw == nil && deadline.Err() == nil {
		raw, err = s.GetMsg(deadline, 2)
	}
	if err != nil || raw.Subject != "local.events.acme.order.paid" {
		t.Fatalf("got %+v, %v", raw, err)
	}

	for _, subject := range []string{"$JS.API.STREAM.INFO.EVENTS", "$JS.API.STREAM.DELETE.EVENTS", "$JS.API.STREAM.MSG.GET.EVENTS", "attempts.1", "tasks.1", "_INBOX.x", "$SYS.REQ.SERVER.PING"} {
		if err := nc.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		wantDenied(t, "publish to "+subject, nc, complaints)
	}
	for _, subject := range []string{">", "events.>", "tasks.>", "$JS.>", "*", "$SYS.>"} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		wantDenied(t, "subscribe to "+subject, nc, complaints)
	}
	if info, err := s.Info(t.Context()); err != nil || info.State.Msgs != 2 {
		t.Errorf("got %+v, %v", info, err)
	}
}

// A stranger that listens to all inboxes gets nothing that is Fanfare's or an operator's.
func TestAStrangerHearsNoOneElsesInbox(t *testing.T) {
	t.Parallel()
	n, _, s := house(t, true)
	nc, _ := client(t, n.ClientURL())
	heard, err := nc.SubscribeSync("_INBOX.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	operator, _ := client(t, n.AdminURL())
	js, err := jetstream.New(operator)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "events.acme.order", []byte("secret")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GetMsg(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if msg, err := heard.NextMsg(100 * time.Millisecond); err == nil {
		t.Errorf("heard %q on %s", msg.Data, msg.Subject)
	}
}

// With local publishing off, and with a wrong password in any case, nobody gets in.
func TestCredentialsAreAskedFor(t *testing.T) {
	t.Parallel()
	for _, open := range []bool{true, false} {
		n, cfg, _ := house(t, open)
		if nc, err := nats.Connect(n.ClientURL()); open != (err == nil) || err != nil && !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("open %v: %v", open, err)
		} else if nc != nil {
			nc.Close()
		}
		for _, option := range []nats.Option{nats.UserInfo("fanfare", "wrong"), nats.UserInfo("fanfare", ""), nats.UserInfo("", "x"), nats.Token("x")} {
			if nc, err := nats.Connect(n.ClientURL(), option); !errors.Is(err, nats.ErrAuthorization) {
				t.Errorf("open %v: wrong credentials: %v", open, err)
				nc.Close()
			}
		}
		info, err := os.Stat(filepath.Join(cfg.Dir, "nats.key"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("nats.key: %v, %v", info, err)
		}
		url, err := embedded.NATSURL(cfg.Dir, strings.TrimPrefix(n.ClientURL(), "nats://"))
		if err != nil || url != n.AdminURL() {
			t.Errorf("got %s, %v", url, err)
		}
		nc, _ := client(t, url)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		if err := js.DeleteStream(t.Context(), "EVENTS"); err != nil {
			t.Errorf("with the password: %v", err)
		}
	}
}
