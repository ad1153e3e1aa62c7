package embedded_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/embedded"
)

func startNATS(t *testing.T, cfg embedded.NATSConfig) *embedded.NATS {
	t.Helper()
	n, err := embedded.StartNATS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Shutdown)
	return n
}

// stream gives the stream S, made if need be, over a connection of its own.
func stream(t *testing.T, n *embedded.NATS) (jetstream.JetStream, jetstream.Stream) {
	t.Helper()
	nc, err := n.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	var s jetstream.Stream
	await(t, "the stream", func() bool { // The files of one that was deleted may not be gone yet.
		s, err = js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, AllowAtomicPublish: true})
		return err == nil
	})
	return js, s
}

func TestNATSKeepsItsStreams(t *testing.T) {
	t.Parallel()
	cfg := embedded.NATSConfig{Dir: t.TempDir(), Listen: "off", SyncAlways: true}
	for want := uint64(1); want <= 3; want++ {
		n := startNATS(t, cfg)
		js, s := stream(t, n)
		if _, err := js.Publish(t.Context(), "s", bytes.Repeat([]byte("x"), 900<<10)); err != nil {
			t.Fatal(err)
		}
		if info, err := s.Info(t.Context()); err != nil || info.State.Msgs != want {
			t.Fatalf("got %+v, error %v, want %d messages", info, err, want)
		}
		if got := n.ClientURL(); got != "" {
			t.Errorf("listens on %s although it is off", got)
		}
		n.Shutdown()
		n.Shutdown() // the second does nothing
	}
}

// Atomic batches are staged in memory, also those of a stream that is made anew, and nothing of them stays there.
func TestNATSStagesBatchesInMemory(t *testing.T) {
	t.Parallel()
	if free, err := embedded.FreeSpace("/dev/shm"); err != nil || free < 1<<30 {
		t.Logf("no shared memory to stage batches in: %d bytes free, %v", free, err)
		return
	}
	dir := t.TempDir()
	staging := filepath.Join(dir, "nats", "jetstream", "$G", "streams", "S", "batches")
	var before string
	for range 2 {
		n := startNATS(t, embedded.NATSConfig{Dir: dir, SyncAlways: true})
		js, _ := stream(t, n)
		if err := js.DeleteStream(t.Context(), "S"); err != nil {
			t.Fatal(err)
		}
		_, s := stream(t, n)
		if err := n.StageInMemory(); err != nil {
			t.Fatal(err)
		}
		in, err := os.Readlink(staging)
		if err != nil || !strings.HasPrefix(in, "/dev/shm/") || in == before {
			t.Fatalf("batches are staged in %q, error %v", in, err)
		}
		before = in
		sendBatch(t, js, 3)
		if info, err := s.Info(t.Context()); err != nil || info.State.Msgs != 3 {
			t.Errorf("got %+v, error %v, want 3 messages", info, err)
		}
		n.Shutdown()
		if _, err := os.Stat(in); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left in memory: %v", in, err)
		}
	}
}

// sendBatch publishes an atomic batch of some messages.
func sendBatch(t *testing.T, js jetstream.JetStream, size int) {
	t.Helper()
	for i := range size {
		msg := nats.NewMsg("s")
		msg.Header.Set("Nats-Batch-Id", "a batch")
		msg.Header.Set("Nats-Batch-Sequence", strconv.Itoa(i+1))
		if i < size-1 {
			if err := js.Conn().PublishMsg(msg); err != nil {
				t.Fatal(err)
			}
			continue
		}
		msg.Header.Set("Nats-Batch-Commit", "1")
		if _, err := js.PublishMsg(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNATSListensForClientsOfThisMachine(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"127.0.0.1:0", "localhost:0", "[::1]:0"} {
		n, err := embedded.StartNATS(embedded.NATSConfig{Dir: t.TempDir(), Listen: listen, LocalPublish: true})
		if err != nil {
			if strings.HasPrefix(listen, "[") && strings.Contains(err.Error(), "cannot be listened on") {
				t.Logf("no IPv6 on this machine: %v", err)
				continue
			}
			t.Fatal(err)
		}
		nc, err := nats.Connect(n.ClientURL())
		if err != nil {
			t.Errorf("%s: connect to %s: %v", listen, n.ClientURL(), err)
		} else {
			nc.Close()
		}
		n.Shutdown()
	}
}

func TestNATSRefusesWhatItCannotServe(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for listen, want := range map[string]string{
		taken.Addr().String(): "cannot be listened on",
		"0.0.0.0:0":           "not on loopback",
		"example.com:4222":    "not on loopback",
		":4222":               "not on loopback",
		"127.0.0.1":           "no host:port",
		"127.0.0.1:nats":      "no port number",
		"127.0.0.1:70000":     "no port number",
	} {
		_, err := embedded.StartNATS(embedded.NATSConfig{Dir: t.TempDir(), Listen: listen})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "FANFARE_NATS_LISTEN") {
			t.Errorf("%s: got %v, want %q with the variable's name", listen, err, want)
		}
	}
}

func TestNATSHasItsDirectoryToItself(t *testing.T) {
	t.Parallel()
	cfg := embedded.NATSConfig{Dir: t.TempDir()}
	first := startNATS(t, cfg)
	if _, err := embedded.StartNATS(cfg); !errors.Is(err, embedded.ErrLocked) || !strings.Contains(err.Error(), "FANFARE_DATA_DIR") {
		t.Errorf("got %v, want ErrLocked with the variable's name", err)
	}
	if err := embedded.Discard(cfg.Dir); !errors.Is(err, embedded.ErrLocked) {
		t.Errorf("discard: got %v, want ErrLocked", err)
	}
	first.Shutdown()
	startNATS(t, cfg).Shutdown()
	if err := embedded.Discard(cfg.Dir); err != nil {
		t.Error(err)
	}
}

func TestNATSBoundsItsStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := startNATS(t, embedded.NATSConfig{Dir: dir})
	nc, err := n.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if nc.MaxPayload() != 1<<20 {
		t.Errorf("max payload: got %d", nc.MaxPayload())
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	cfg := jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, MaxBytes: n.MaxStore() + 1}
	if _, err := js.CreateStream(t.Context(), cfg); err == nil {
		t.Error("a stream may reserve more than there is")
	}
	cfg.MaxBytes = n.MaxStore()
	if _, err := js.CreateStream(t.Context(), cfg); err != nil {
		t.Error(err)
	}
	n.Shutdown()

	// On a volume that is fuller than it was, streams can still be changed.
	before := n.MaxStore() * 2
	if err := os.WriteFile(filepath.Join(dir, "nats", "max_store"), fmt.Appendln(nil, before), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := startNATS(t, embedded.NATSConfig{Dir: dir}).MaxStore(); got != before {
		t.Errorf("got %d, want %d as before", got, before)
	}
}

func TestNATSLogsToSlog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	n := startNATS(t, embedded.NATSConfig{
		Dir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	n.Shutdown()
	if text := out.String(); !strings.Contains(text, "Server is ready") || !strings.Contains(text, "part=nats") {
		t.Errorf("got %q", text)
	}
}
