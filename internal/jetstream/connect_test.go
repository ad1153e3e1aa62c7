package jetstream_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// listening starts a server that is reached through a socket.
func listening(tb testing.TB, opts *server.Options) *server.Server {
	tb.Helper()
	opts.Host, opts.NoSigs = "127.0.0.1", true
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	s, err := server.NewServer(opts)
	if err != nil {
		tb.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(2 * time.Minute) {
		tb.Fatal("the server is not ready")
	}
	tb.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}

// freePort returns a port that nobody listens on.
func freePort(tb testing.TB) int {
	tb.Helper()
	_, port, err := net.SplitHostPort(servertest.FreeAddress(tb))
	if err != nil {
		tb.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func TestConnectWaitsForTheServer(t *testing.T) {
	t.Parallel()
	opts := &server.Options{Port: freePort(t)}
	tried := make(chan struct{}, 1)
	dialer := dialerFunc(func(network, address string) (net.Conn, error) {
		select {
		case tried <- struct{}{}:
		default:
		}
		return net.Dial(network, address)
	})
	connected := make(chan *nats.Conn)
	go func() {
		nc, err := jetstream.Config{URL: "nats://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(opts.Port))}.Connect(t.Context(), nil, nats.SetCustomDialer(dialer))
		if err != nil {
			t.Error(err)
		}
		connected <- nc
	}()
	<-tried
	listening(t, opts)
	nc := <-connected
	defer nc.Close()
	if nc.Opts.MaxReconnect != -1 || !nc.IsConnected() {
		t.Errorf("max reconnects %d, connected %t", nc.Opts.MaxReconnect, nc.IsConnected())
	}
}

type dialerFunc func(network, address string) (net.Conn, error)

func (f dialerFunc) Dial(network, address string) (net.Conn, error) { return f(network, address) }

// The credentials of the first URL count for the others, and for servers of the cluster that no URL names.
func TestCredentialsOfTheFirstURLCountForAll(t *testing.T) {
	t.Parallel()
	var servers [3]*server.Server
	routes := freePort(t)
	for i := range servers {
		opts := &server.Options{Username: "api", Password: "secret", ServerName: "n" + strconv.Itoa(i)}
		opts.Cluster = server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: server.RANDOM_PORT}
		if i == 0 {
			opts.Cluster.Port = routes
		}
		opts.Routes = server.RoutesFromStr("nats://127.0.0.1:" + strconv.Itoa(routes))
		servers[i] = listening(t, opts)
	}
	first := "nats://api:secret@" + servers[0].Addr().String()
	reconnected, discovered := make(chan struct{}, 3), make(chan struct{}, 3)
	nc, err := jetstream.Config{URL: first + ", nats://" + servers[1].Addr().String()}.Connect(t.Context(), nil,
		nats.DontRandomize(), nats.ReconnectWait(10*time.Millisecond), nats.ReconnectHandler(func(*nats.Conn) { reconnected <- struct{}{} }),
		nats.DiscoveredServersHandler(func(*nats.Conn) { discovered <- struct{}{} }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for len(nc.Servers()) < 3 {
		<-discovered
	}
	for _, s := range servers[:2] {
		s.Shutdown()
		<-reconnected
	}
	if got, want := nc.ConnectedAddr(), servers[2].Addr().String(); got != want {
		t.Errorf("connected to %s, want %s", got, want)
	}
}

func TestConnectGivesUp(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := jetstream.Config{URL: "nats://127.0.0.1:" + strconv.Itoa(freePort(t))}.Connect(ctx, nil)
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, nats.ErrNoServers) {
		t.Errorf("got %v, want both the deadline and its reason", err)
	}
	s := listening(t, &server.Options{Username: "u", Password: "p"})
	if _, err := (jetstream.Config{URL: s.ClientURL()}).Connect(t.Context(), nil); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("without credentials: got %v, want %v", err, nats.ErrAuthorization)
	}
	cfg := jetstream.Config{URL: s.ClientURL(), Creds: "/nowhere/fanfare.creds"}
	if _, err := cfg.Connect(t.Context(), func(error) {}); err == nil || !strings.Contains(err.Error(), "/nowhere/fanfare.creds") {
		t.Errorf("with credentials that are missing: got %v", err)
	}
}

// A connection proves who it is with the key of an nkey file.
func TestConnectWithNKey(t *testing.T) {
	t.Parallel()
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := user.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "fanfare.nk")
	if err := os.WriteFile(file, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	s := listening(t, &server.Options{Nkeys: []*server.NkeyUser{{Nkey: public}}})
	nc, err := jetstream.Config{URL: s.ClientURL(), NKey: file}.Connect(t.Context(), func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	if _, err := (jetstream.Config{URL: s.ClientURL()}).Connect(t.Context(), func(error) {}); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("without the nkey: got %v, want %v", err, nats.ErrAuthorization)
	}
}

func TestLogOfAConnection(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	log := newSignals()
	b.connect(jetstream.Log(log.logger()))
	b.stop()
	log.wait("connection to NATS lost")
	b.start()
	log.wait("connection to NATS is back")
}

func TestDurability(t *testing.T) {
	t.Parallel()
	users := func(opts server.Options, exported bool) *server.Options {
		sys, app := server.NewAccount("SYS"), server.NewAccount("APP")
		if exported {
			if err := sys.AddServiceExport("$SYS.REQ.SERVER.PING.JSZ", nil); err != nil {
				t.Fatal(err)
			}
			if err := app.AddServiceImport(sys, "$SYS.REQ.SERVER.PING.JSZ", ""); err != nil {
				t.Fatal(err)
			}
		}
		opts.Accounts, opts.SystemAccount = []*server.Account{sys, app}, "SYS"
		opts.Users = []*server.User{{Username: "app", Password: "app", Account: app}}
		opts.JetStream, opts.StoreDir = true, t.TempDir()
		return &opts
	}
	tests := []struct {
		name     string
		always   bool
		exported bool
		unsynced bool // the inbox
		change   func(*natsjs.StreamConfig)
		want     bool
		why      string
	}{
		{name: "it tells, and syncs", always: true, exported: true, want: true, why: "every write is replicated or synced"},
		{name: "it tells, and does not sync", exported: true, why: "does not sync every write"},
		{name: "it does not tell", always: true, why: "it does not tell this account"},
		{name: "memory", always: true, exported: true, change: func(c *natsjs.StreamConfig) { c.Storage = natsjs.MemoryStorage }, why: "stream EVENTS is in memory"},
		{name: "asynchronous", always: true, exported: true, change: func(c *natsjs.StreamConfig) {
			c.PersistMode, c.AllowAtomicPublish = natsjs.AsyncPersistMode, false
		}, why: "stream EVENTS is written after it acknowledged"},
		{name: "asynchronous and found again", always: true, exported: true, unsynced: true, change: func(c *natsjs.StreamConfig) {
			c.PersistMode, c.AllowAtomicPublish = natsjs.AsyncPersistMode, false
		}, want: true, why: "every write is replicated or synced"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := listening(t, users(server.Options{SyncAlways: tt.always}, tt.exported))
			app, err := s.LookupAccount("APP")
			if err != nil {
				t.Fatal(err)
			}
			if err := app.EnableJetStream(nil, nil); err != nil {
				t.Fatal(err)
			}
			nc, err := jetstream.Config{URL: s.ClientURL()}.Connect(t.Context(), nil, nats.UserInfo("app", "app"))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			js, err := natsjs.New(nc)
			if err != nil {
				t.Fatal(err)
			}
			b, other := inbox(), inbox()
			b.Unsynced = tt.unsynced
			if tt.change != nil {
				tt.change(&b.Stream)
			}
			other.Stream.Name, other.Stream.Subjects, other.Stream.Storage = "OTHER", []string{"other"}, natsjs.MemoryStorage
			apply(t, js, b, other)
			got, why, err := jetstream.Durability(t.Context(), nc, js, b)
			if err != nil || got != tt.want || !strings.Contains(why, tt.why) {
				t.Errorf("got %t, %q, %v, want %t, %q", got, why, err, tt.want, tt.why)
			}
			if got, why, _ := jetstream.Durability(t.Context(), nc, js, b, other); got || !strings.Contains(why, "stream OTHER is in memory") {
				t.Errorf("of both streams: got %t, %q", got, why)
			}
		})
	}
}

func TestDurabilityWithinTheProcess(t *testing.T) {
	t.Parallel()
	for _, always := range []bool{true, false} {
		s := listening(t, &server.Options{JetStream: true, StoreDir: t.TempDir(), SyncAlways: always})
		nc, err := jetstream.Config{}.Connect(t.Context(), nil, nats.InProcessServer(s))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		js, err := natsjs.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		apply(t, js, inbox())
		if got, why, err := jetstream.Durability(t.Context(), nc, js, inbox()); got != always || err != nil {
			t.Errorf("sync always %t: got %t, %q, %v", always, got, why, err)
		}
	}
}
