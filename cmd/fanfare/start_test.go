package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/fanfarehq/fanfare/internal/client"
	"github.com/fanfarehq/fanfare/internal/running"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// sharedSettings are the settings that a role needs beside its servers, with streams that need little room.
func sharedSettings(natsURL, postgresURL string) []string {
	return []string{
		"FANFARE_NATS_URL=" + natsURL, "FANFARE_POSTGRES_URL=" + postgresURL,
		"FANFARE_SECRET_KEYS=k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "FANFARE_ADMIN_KEY=the-admin-key-of-this-test",
		"FANFARE_EVENTS_MAX_BYTES=268435456", "FANFARE_TASKS_MAX_BYTES=16777216", "FANFARE_BACKLOG_MAX_BYTES=16777216", "FANFARE_ATTEMPTS_MAX_BYTES=16777216",
	}
}

// While NATS is away, a start is alive, says in /readyz and in the log what it waits for, and goes on when NATS is there. Told to
// stop, it serves the API for FANFARE_SHUTDOWN_DELAY more while /readyz says so, and operations to the end.
func TestStartWaitsAndStopDelays(t *testing.T) {
	t.Parallel()
	broker := servertest.NewRestartableNATS(t)
	env := sharedSettings(broker.URL(), servertest.EmptyPostgresURL(t))
	if p := start(t, dataDir(t), env, "topology", "apply"); p.exitCode() != exitOK {
		t.Fatalf("topology apply: %s", p.out)
	}
	broker.Stop()
	ops, addr := servertest.FreeAddress(t), servertest.FreeAddress(t)
	p := start(t, dataDir(t), append(env, "FANFARE_OPS_ADDR="+ops, "FANFARE_ADDR="+addr, "FANFARE_SHUTDOWN_DELAY=1m"), "ingest")
	p.wait("/healthz answers", func() bool { return status("http://"+ops+"/healthz") == http.StatusOK })
	var got readiness
	p.wait("/readyz says what is awaited", func() bool {
		got = readiness{}
		return get(t, "http://"+ops+"/readyz", &got) == http.StatusServiceUnavailable && strings.Contains(got.Dependencies["nats"], "no servers available")
	})
	if got.Status != "starting" || !strings.Contains(got.Dependencies["nats"], "FANFARE_NATS_URL") {
		t.Errorf("/readyz: %+v", got)
	}
	p.wait("the log says so", func() bool {
		return strings.Contains(p.out.String(), "waiting for a dependency") && strings.Contains(p.out.String(), "setting=FANFARE_NATS_URL")
	})
	broker.Start()
	p.wait("it is ready", func() bool { return status("http://"+ops+"/readyz") == http.StatusOK })
	p.wait("the log says that the wait is over", func() bool { return strings.Contains(p.out.String(), "dependency answers") })

	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	p.wait("/readyz says that it stops", func() bool {
		got = readiness{}
		return get(t, "http://"+ops+"/readyz", &got) == http.StatusServiceUnavailable && got.Status == "stopping"
	})
	if got := status("http://" + addr + "/v1/events"); got != http.StatusMethodNotAllowed { // A role that only publishes lists nothing.
		t.Errorf("while it stops, the API answers %d, want %d: it is still served", got, http.StatusMethodNotAllowed)
	}
	if err := p.cmd.Process.Kill(); err != nil { // The rest of the delay teaches nothing.
		t.Fatal(err)
	}
}

// status is that of an answer, or 0 if there is none.
func status(url string) int {
	resp, err := http.Get(url)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// What waiting cannot cure ends a start at once, with the setting and the address.
func TestStartRefusesWhatWaitingCannotCure(t *testing.T) {
	t.Parallel()
	postgresURL := servertest.EmptyPostgresURL(t)
	with := servertest.NATS(t, servertest.Listen)
	without := natsServer(t, &server.Options{Username: "u", Password: "p"})
	old := oldServer(t, with.ClientURL())
	nowhere := filepath.Join(t.TempDir(), "missing.pem")
	credentials := strings.Replace(with.AdminURL(), strings.TrimPrefix(with.ClientURL(), "nats://"), old, 1)
	for name, test := range map[string]struct {
		nats, postgres string
		env            []string
		words          []string
	}{
		"credentials file": {with.AdminURL(), postgresURL, []string{"FANFARE_NATS_CREDS=" + nowhere}, []string{"FANFARE_NATS_CREDS", nowhere}},
		"nkey file":        {with.AdminURL(), postgresURL, []string{"FANFARE_NATS_NKEY=" + nowhere}, []string{"FANFARE_NATS_NKEY", nowhere}},
		"CA file":          {with.AdminURL(), postgresURL, []string{"FANFARE_NATS_CA=" + nowhere}, []string{"FANFARE_NATS_CA", nowhere}},
		"half a client certificate": {with.AdminURL(), postgresURL, []string{"FANFARE_NATS_CLIENT_CERT=" + nowhere},
			[]string{"FANFARE_NATS_CLIENT_KEY"}},
		"client certificate": {with.AdminURL(), postgresURL, []string{"FANFARE_NATS_CLIENT_CERT=" + nowhere, "FANFARE_NATS_CLIENT_KEY=" + nowhere},
			[]string{"FANFARE_NATS_CLIENT_CERT", nowhere}},
		"no TLS there": {with.AdminURL(), postgresURL, []string{"FANFARE_NATS_CA=" + writePEM(t)}, []string{"FANFARE_NATS_URL", "secure connection"}},
		"wrong password of NATS": {strings.Replace(without.ClientURL(), "nats://", "nats://u:wrong@", 1), postgresURL, nil,
			[]string{"FANFARE_NATS_URL", without.Addr().String(), "Authorization Violation"}},
		"no JetStream": {strings.Replace(without.ClientURL(), "nats://", "nats://u:p@", 1), postgresURL, nil,
			[]string{"FANFARE_NATS_URL", without.Addr().String(), "JetStream"}},
		"old NATS": {credentials, postgresURL, nil, []string{"FANFARE_NATS_URL", "2.10.29", "2.12.0"}},
		"certificate of Postgres": {with.AdminURL(), "postgres://u:secret@" + old + "/db?sslmode=verify-full&sslrootcert=" + nowhere, nil,
			[]string{"FANFARE_POSTGRES_URL", old, nowhere}},
		"parameter of Postgres": {with.AdminURL(), postgresURL + "&nosuch=1", nil, []string{"FANFARE_POSTGRES_URL", "nosuch"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fails(t, exitError, append(sharedSettings(test.nats, test.postgres), test.env...), []string{"ingest"}, test.words...)
		})
	}
}

// natsServer is a server without JetStream.
func natsServer(t *testing.T, opts *server.Options) *server.Server {
	t.Helper()
	opts.Host, opts.Port, opts.NoSigs = "127.0.0.1", server.RANDOM_PORT, true
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}

// oldServer is the address of a server that says that it is an old one: a proxy before the server at url.
func oldServer(t *testing.T, url string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { listener.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			answerAsOld(conn, strings.TrimPrefix(url, "nats://"))
		}
	}()
	return listener.Addr().String()
}

// answerAsOld passes one connection on, and changes the version in each line of the server: it sends its INFO more than once.
func answerAsOld(conn net.Conn, to string) {
	defer conn.Close()
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer up.Close()
	back := make(chan struct{})
	go func() {
		defer close(back)
		defer conn.Close()
		for lines := bufio.NewReader(up); ; {
			line, err := lines.ReadString('\n')
			_, _ = io.WriteString(conn, strings.Replace(line, `"version":"`+server.VERSION+`"`, `"version":"2.10.29"`, 1))
			if err != nil {
				return
			}
		}
	}()
	_, _ = io.Copy(up, conn)
	_ = up.Close()
	<-back
}

// A process whose log cannot be written, as on a full disk, works on.
func TestFullLog(t *testing.T) {
	t.Parallel()
	path, err := binary()
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	receiver, dir := newTally(t), dataDir(t)
	p := startBinary(t, func() (string, error) { return "/bin/sh", nil }, dir, []string{"FANFARE_ADMIN_KEY=the-admin-key-of-this-test"}, "-c", "exec "+path+" all >/dev/full 2>&1")
	var at running.Process
	p.wait("it is ready", func() bool {
		at, err = running.Read(dir)
		return err == nil && status(at.Ops+"/readyz") == http.StatusOK
	})
	api := client.New(at.API, "the-admin-key-of-this-test")
	t.Cleanup(api.Close)
	subscribe(t, api, "s", receiver.url, "*")
	call(t, api, "POST /v1/events?tenant=acme", map[string]any{"type": "order.created", "data": map[string]any{}}, nil)
	await(t, "the event is delivered", func() bool { distinct, _ := receiver.counts(); return distinct == 1 })
}
