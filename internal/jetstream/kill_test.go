package jetstream_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats-server/v2/server"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

const (
	brokerDir  = "FANFARE_TEST_BROKER_DIR"
	brokerPort = "FANFARE_TEST_BROKER_PORT"
	ready      = "ready"
)

// serve is the main function of a broker in a process of its own. It ends with its standard input, at the latest.
func serve() {
	port, err := strconv.Atoi(os.Getenv(brokerPort))
	if err != nil {
		panic(err)
	}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: port, NoSigs: true,
		JetStream: true, StoreDir: os.Getenv(brokerDir), SyncAlways: true,
	})
	if err != nil {
		panic(err)
	}
	s.Start()
	if !s.ReadyForConnections(2 * time.Minute) {
		panic("not ready")
	}
	fmt.Println(ready)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// mortal is a broker that can be killed.
type mortal struct {
	t    *testing.T
	dir  string
	port int

	cmd   *exec.Cmd
	stdin io.Closer
}

func (m *mortal) start() {
	m.t.Helper()
	m.cmd = exec.Command(os.Args[0])
	m.cmd.Env = append(os.Environ(), brokerDir+"="+m.dir, brokerPort+"="+strconv.Itoa(m.port))
	stdin, err := m.cmd.StdinPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	m.stdin = stdin
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); strings.TrimSpace(line) != ready {
		m.t.Fatalf("the broker said %q, %v", line, err)
	}
}

func (m *mortal) kill() {
	_ = m.cmd.Process.Kill()
	_ = m.stdin.Close()
	_ = m.cmd.Wait() // "signal: killed"
}

// Of a broker that is killed under load, all that was acked is there afterwards, and what it hands out a second time is
// suspect, although the broker may not know that it is the second.
func TestKilledBroker(t *testing.T) {
	t.Parallel()
	b := &mortal{t: t, dir: t.TempDir(), port: freePort(t)}
	b.start()
	t.Cleanup(func() { b.kill() })
	nc, err := jetstream.Config{URL: "nats://127.0.0.1:" + strconv.Itoa(b.port)}.Connect(t.Context(), nil, jetstream.Log(newSignals().logger()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, js, impatient())
	p := newPublisher(t, js, jetstream.PublisherConfig{Dedupe: true})
	msgs := subscribe(t, newSubscriber(t, js, jetstream.SubscriberConfig{}))

	const callers, each = 100, 60
	var seen seen
	handled := make(chan struct{}, callers*each)
	var senders sync.WaitGroup
	go func() {
		for msg := range msgs {
			if seen.first(t, msg) {
				handled <- struct{}{}
			}
			msg.Ack()
		}
	}()
	var places sync.Map
	for c := range callers {
		senders.Go(func() {
			for i := range each {
				id := fmt.Sprintf("%d-%d", c, i)
				ack, err := p.Send(t.Context(), subject, text(id, id))
				for errors.Is(err, jetstream.ErrUnavailable) {
					ack, err = p.Send(t.Context(), subject, text(id, id))
				}
				if err != nil {
					t.Error(err)
					return
				}
				places.Store(id, ack.Sequence)
			}
		})
	}
	for i := range callers * each {
		<-handled
		if i == callers*each/3 || i == callers*each*2/3 {
			b.kill()
			b.start()
		}
	}
	senders.Wait()
	inStream := stored(t, js)
	places.Range(func(id, place any) bool {
		if m := inStream[place.(uint64)]; m == nil || string(m.Data) != id {
			t.Errorf("%s was acked at %d and is not there", id, place)
		}
		return true
	})
	waitForConsumer(t, js, func(i *natsjs.ConsumerInfo) bool { return i.NumAckPending == 0 && i.NumPending == 0 })
	seen.mu.Lock()
	defer seen.mu.Unlock()
	t.Logf("%d sends, %d stored, %d handed out again, of which the broker thought %d to be new", callers*each, len(inStream), seen.again, seen.forgotten)
}

// seen is what a handler has seen.
type seen struct {
	mu               sync.Mutex
	bodies           map[string]bool
	places           map[uint64]bool
	again, forgotten int
}

// first says whether a message's body is new. It complains about a message that is not, and not suspect.
func (s *seen) first(t *testing.T, msg *message.Message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bodies == nil {
		s.bodies, s.places = map[string]bool{}, map[uint64]bool{}
	}
	d := meta(t, msg)
	if s.places[d.Sequence] {
		s.again++
		if d.NumDelivered == 1 {
			s.forgotten++
		}
		if !d.Suspect {
			t.Errorf("%d was handed out again and is not suspect: %+v", d.Sequence, d)
		}
	}
	s.places[d.Sequence] = true
	body := string(msg.Payload)
	defer func() { s.bodies[body] = true }()
	return !s.bodies[body]
}
