package check

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The user that deploy/nats.conf shows for a service of one tenant publishes that tenant's events, and hears no answers but its own.
func TestATenantsPublisherHearsNobodyElse(t *testing.T) {
	conf := regexp.MustCompile(`# (\{user: shop,)`).ReplaceAllString(read(t, "deploy/nats.conf"), "$1")
	for _, m := range regexp.MustCompile(`\$(NATS_\w+)`).FindAllStringSubmatch(conf, -1) {
		t.Setenv(m[1], "0a1b2c3d4e5f"+strings.ToLower(m[1]))
	}
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	b := runBroker(t, file)
	as := func(user string, options ...nats.Option) *nats.Conn {
		t.Helper()
		options = append(options, nats.UserInfo(user, "0a1b2c3d4e5fnats_"+user+"_password"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		nc, err := nats.Connect("nats://"+b.Addr().String(), options...)
		if err != nil {
			t.Fatalf("%s: %v", user, err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	topology, err := jetstream.New(as("topology"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := topology.CreateStream(t.Context(), jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events.>"}}); err != nil {
		t.Fatal(err)
	}
	shop := as("shop", nats.CustomInboxPrefix("_INBOX_shop"))
	js, err := jetstream.New(shop)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "events.acme.order.created", []byte("{}")); err != nil {
		t.Errorf("publish for acme: %v", err)
	}
	if seen := b.seen(); len(seen) > 0 {
		t.Errorf("it lacks permissions: %v", seen)
	}
	for name, try := range map[string]func() error{
		"hear the roles' answers":    func() error { _, err := shop.SubscribeSync("_INBOX.>"); return err },
		"hear all":                   func() error { _, err := shop.SubscribeSync(">"); return err },
		"hear another tenant's":      func() error { _, err := shop.SubscribeSync("events.globex.>"); return err },
		"publish for another tenant": func() error { return shop.Publish("events.globex.order.created", nil) },
		"read the stream":            func() error { return shop.Publish("$JS.API.DIRECT.GET.EVENTS", nil) },
		"make a consumer":            func() error { return shop.Publish("$JS.API.CONSUMER.CREATE.EVENTS.x", nil) },
	} {
		before := len(b.seen())
		if err := try(); err != nil {
			t.Error(err)
		}
		_ = shop.Flush() // The answer to it comes after the violation.
		if len(b.seen()) == before {
			t.Errorf("it may %s", name)
		}
	}
}
