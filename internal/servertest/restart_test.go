package servertest_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

func TestPostgresComesBackWithItsData(t *testing.T) {
	t.Parallel()
	r := servertest.NewRestartablePostgres(t)
	db, err := postgres.Open(t.Context(), r.URL(), 4)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, end := range []func(){r.Stop, r.Kill} {
		if _, err := db.Exec("INSERT INTO tenants (tenant) VALUES (gen_random_uuid())"); err != nil {
			t.Fatal(err)
		}
		end()
		if err := db.Ping(); err == nil {
			t.Error("a server that ended still answers")
		}
		r.Start()
	}
	var rows int
	if err := db.QueryRow("SELECT count(*) FROM tenants").Scan(&rows); err != nil || rows != 2 {
		t.Errorf("got %d rows, error %v", rows, err)
	}
}

func TestAFrozenPostgresDoesNotAnswerAndThenDoes(t *testing.T) {
	t.Parallel()
	r := servertest.NewRestartablePostgres(t)
	db, err := postgres.Open(t.Context(), r.URL(), 4)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := db.PingContext(ctx); err == nil {
		t.Error("a frozen server answered")
	}
	r.Thaw()
	if err := db.PingContext(t.Context()); err != nil {
		t.Errorf("after it thawed: %v", err)
	}
}

func TestNATSComesBackWithItsStreams(t *testing.T) {
	t.Parallel()
	n := servertest.NewRestartableNATS(t)
	back := make(chan struct{}, 1)
	nc, err := nats.Connect(n.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond),
		nats.ReconnectHandler(func(*nats.Conn) { back <- struct{}{} }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []func(){n.Stop, n.Kill} {
		if _, err := js.Publish(ctx, "s", []byte("kept")); err != nil {
			t.Fatal(err)
		}
		end()
		n.Start()
		<-back
	}
	n.Freeze()
	n.Thaw()
	info, err := stream.Info(ctx)
	if err != nil || info.State.Msgs != 2 {
		t.Errorf("got %+v, error %v", info, err)
	}
}
