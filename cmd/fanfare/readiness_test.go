package main

import (
	"database/sql"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// awaitReadiness waits until /readyz has the status code, and every word in its answer.
func awaitReadiness(t *testing.T, ops string, code int, words ...string) {
	t.Helper()
	var got readiness
	await(t, "/readyz answers "+http.StatusText(code)+" with "+strings.Join(words, ", "), func() bool {
		got = readiness{}
		if get(t, ops+"/readyz", &got) != code {
			return false
		}
		text := got.Durability + got.Detail + got.Lost
		for name, is := range got.Dependencies {
			text += "\n" + name + ": " + is
		}
		for _, word := range words {
			if !strings.Contains(text, word) {
				return false
			}
		}
		return true
	})
}

func connectJetStream(t *testing.T, nc *nats.Conn) natsjs.JetStream {
	t.Helper()
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// `fanfare all` makes the streams and consumers again that somebody deleted, and delivers on.
func TestAllMakesItsStreamsAgain(t *testing.T) {
	t.Parallel()
	broker := servertest.NATS(t, servertest.Listen)
	receiver := newTally(t)
	dir := dataDir(t)
	_, at := startAll(t, dir, "FANFARE_NATS_URL="+broker.AdminURL())
	admin := adminClient(t, at, dir)
	await(t, "fanfare health --ready succeeds", func() bool {
		code, _ := health(t, dir, "127.0.0.1:0", "--ready")
		return code == exitOK
	})
	subscribe(t, admin, "all", receiver.url, "*")
	js := connectJetStream(t, servertest.Connect(t, broker))
	delivered := 0
	for _, remove := range []func() error{
		func() error { return js.DeleteConsumer(t.Context(), "EVENTS", "fanout") },
		func() error { return js.DeleteStream(t.Context(), "TASKS") },
		func() error { return js.DeleteStream(t.Context(), "ATTEMPTS") },
		func() error { return js.DeleteStream(t.Context(), "EVENTS") },
	} {
		if err := remove(); err != nil {
			t.Fatal(err)
		}
		await(t, "all is there again", func() bool { return jetstream.Present(t.Context(), js, inboxes(newSettings())...) == nil })
		awaitReadiness(t, at.Ops, http.StatusOK)
		call(t, admin, "POST /v1/events?tenant=acme", map[string]any{"type": "order.created", "data": map[string]any{}}, nil)
		delivered++
		await(t, "the event after it is delivered", func() bool { distinct, _ := receiver.counts(); return distinct == delivered })
	}
}

// Each role's /readyz looks at what the role uses, by using it.
func TestReadinessOfEachRole(t *testing.T) {
	t.Parallel()
	broker := servertest.NATS(t, servertest.Listen)
	url := servertest.EmptyPostgresURL(t)
	env := sharedSettings(broker.AdminURL(), url)
	apply := func() {
		t.Helper()
		if p := start(t, dataDir(t), env, "topology", "apply"); p.exitCode() != exitOK {
			t.Fatalf("topology apply: %s", p.out)
		}
	}
	apply()
	ops := map[string]string{}
	for _, role := range []string{"ingest", "fanout", "deliver"} {
		addr := servertest.FreeAddress(t)
		start(t, dataDir(t), append(env, "FANFARE_OPS_ADDR="+addr), role)
		ops[role] = "http://" + addr
	}
	await(t, "the roles answer", func() bool {
		for _, at := range ops {
			resp, err := http.Get(at + "/readyz")
			if err != nil {
				return false
			}
			resp.Body.Close()
		}
		return true
	})
	js := connectJetStream(t, servertest.Connect(t, broker))
	for _, test := range []struct {
		stream, consumer string
		not, still       []string
	}{
		{"EVENTS", "fanout", []string{"fanout"}, []string{"ingest", "deliver"}},
		{"TASKS", "", []string{"fanout", "deliver"}, []string{"ingest"}},
		{"ATTEMPTS", "recorder", []string{"deliver"}, []string{"ingest", "fanout"}},
		{"EVENTS", "", []string{"ingest", "fanout", "deliver"}, nil},
	} {
		for _, role := range []string{"ingest", "fanout", "deliver"} {
			awaitReadiness(t, ops[role], http.StatusOK)
		}
		err := js.DeleteStream(t.Context(), test.stream)
		if test.consumer != "" {
			apply()
			err = js.DeleteConsumer(t.Context(), test.stream, test.consumer)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, role := range test.not {
			awaitReadiness(t, ops[role], http.StatusServiceUnavailable, test.stream, "missing")
			testHealth(t, ops[role], test.stream)
		}
		for _, role := range test.still {
			awaitReadiness(t, ops[role], http.StatusOK)
		}
		apply()
	}
	testReadOnly(t, url, ops)
}

// testHealth asks a process that lives and lacks a stream.
func testHealth(t *testing.T, ops, stream string) {
	t.Helper()
	addr := strings.TrimPrefix(ops, "http://")
	if code, out := health(t, t.TempDir(), addr); code != exitOK {
		t.Errorf("fanfare health: exit code %d, %s", code, out)
	}
	await(t, "fanfare health --ready fails and names stream "+stream, func() bool {
		code, out := health(t, t.TempDir(), addr, "--ready")
		return code == exitError && strings.Contains(out, stream)
	})
}

// testReadOnly makes the database read-only, as a failover may, and writable again: nothing but that is needed for the roles to
// be ready again, although their sessions are older.
func testReadOnly(t *testing.T, url string, ops map[string]string) {
	t.Helper()
	db, err := postgres.Open(t.Context(), url, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	setReadOnly(t, db, "on")
	for _, at := range ops {
		awaitReadiness(t, at, http.StatusServiceUnavailable, "read-only")
	}
	setReadOnly(t, db, "off")
	for _, at := range ops {
		awaitReadiness(t, at, http.StatusOK)
	}
}

// setReadOnly changes what new sessions of the database may do, and ends those of the roles.
func setReadOnly(t *testing.T, db *sql.DB, value string) {
	t.Helper()
	var name string
	if err := db.QueryRow("SELECT current_database()").Scan(&name); err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		"SET default_transaction_read_only = off", // of this session
		`ALTER DATABASE "` + name + `" SET default_transaction_read_only = ` + value,
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if value == "off" {
		return // The sessions that cannot write stay: to leave the pool is theirs.
	}
	if _, err := db.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()`); err != nil {
		t.Fatal(err)
	}
}
