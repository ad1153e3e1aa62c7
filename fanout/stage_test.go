package fanout_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/embedded"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/subscriptions"
)

func TestAnEventOfAnyClientIsFannedOut(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	want, other := h.subscribe("acme", "order.*"), h.subscribe("acme", "invoice.paid")
	h.subscribe("globex", "order.*")
	h.run()
	h.reading()
	seq := h.publish("events.acme.order.created", `{"total": 12.50}`, "Nats-Msg-Id", "acme.evt_17", "Fanfare-Changed", "status")
	h.publish("events.acme.nobody.cares", `1`, "Fanfare-Id", "evt_18")
	h.settled()

	tasks := h.tray.all()
	if len(tasks) != 1 || len(tasks[0].Targets) != 1 || tasks[0].Targets[0].Subscription != want.ID {
		t.Fatalf("tasks are %+v, want one for %s (and none for %s)", tasks, want.ID, other.ID)
	}
	e := tasks[0].Event
	if e.ID != "evt_17" || e.Tenant != "acme" || e.Type != "order.created" || string(e.Data) != `{"total": 12.50}` ||
		e.Seq != seq || len(e.Changed) != 1 || e.UID != event.UID("acme", "evt_17", e.AcceptedAt) {
		t.Errorf("the event became %+v", e)
	}
	if tasks[0].Suspect || tasks[0].Revision < want.Revision {
		t.Errorf("the task is suspect (%v) or of revision %d, before %d", tasks[0].Suspect, tasks[0].Revision, want.Revision)
	}
	if rows := h.rows(); len(rows) != 2 || rows["evt_17"] != 1 || rows["evt_18"] != 0 {
		t.Errorf("the ledger has %v", rows)
	}
}

func TestManyTargetsAreManyTasks(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for range 130 {
		h.subscribe("acme", "*")
	}
	h.run()
	h.publish("events.acme.order.created", `{}`, "Fanfare-Id", "e")
	h.settled()
	if n := len(h.tray.all()); n != 3 {
		t.Errorf("130 targets made %d tasks, want 3", n)
	}
	for id, times := range h.tray.targets()["e"] {
		if times != 1 {
			t.Errorf("%s is to get the event %d times", id, times)
		}
	}
	if n := len(h.tray.targets()["e"]); n != 130 {
		t.Errorf("%d targets, want 130", n)
	}
}

func TestAChangeIsSeenByTheNextEvent(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.run()
	for i := range 30 {
		s := h.subscribe("acme", fmt.Sprintf("t%d", i))
		id := fmt.Sprintf("made_%d", i)
		h.publish("events.acme."+s.EventTypes[0], `{}`, "Fanfare-Id", id)
		h.settled()
		if h.tray.targets()[id][s.ID] != 1 {
			t.Fatalf("event %s missed a subscription that was there before it", id)
		}
		if err := h.store.Delete(t.Context(), "acme", s.ID); err != nil {
			t.Fatal(err)
		}
		id = fmt.Sprintf("gone_%d", i)
		h.publish("events.acme."+s.EventTypes[0], `{}`, "Fanfare-Id", id)
		h.settled()
		if len(h.tray.targets()[id]) != 0 {
			t.Fatalf("event %s went to a subscription that was deleted before it", id)
		}
	}
}

func TestWhatIsNoEventGoesToQuarantine(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.cfg.EventTypes = fanout.Strict
	h.declare("acme", "order", `{"type":"object","required":["total"]}`, false)
	h.declare("acme", "costly", `{"anyOf":[{"properties":{"a":{"$ref":"#"}}},{"required":["a"],"properties":{"a":{"$ref":"#"}}}],"not":{"required":["b"]}}`, false)
	h.declare("acme", "old", ``, true)
	foreign := h.subscribe("globex", "*")
	h.run()
	h.reading()
	want := map[uint64]event.Reason{
		h.publish("events.acme.order", `{"total":`):                                                    event.BadData,
		h.publish("events.acme.order", ``):                                                             event.BadData,
		h.publish("events.acme.order", `{"a":1,"a":2}`):                                                event.BadData,
		h.publish("events.acme.order", "\"\xff\""):                                                     event.BadData,
		h.publish("events.acme.order", "\xef\xbb\xbf{}"):                                               event.BadData,
		h.publish("events.acme.order", `"\ud800"`):                                                     event.BadData,
		h.publish("events.acme.order", `{} {}`):                                                        event.BadData,
		h.publish("events.acme.order", strings.Repeat("[", 65)+strings.Repeat("]", 65)):                event.TooDeep,
		h.publish("events.acme.order", strings.Repeat("[", 500_000)):                                   event.TooLarge,
		h.publish("events.acme.order", `"`+strings.Repeat("a", 256<<10)+`"`):                           event.TooLarge,
		h.publish("events.acme.order", `{"total":1}`, "Fanfare-Id", "a.b"):                             event.BadID,
		h.publish("events.acme.order", `{"total":1}`, "Fanfare-Targets", foreign.ID.String()):          event.BadTarget,
		h.publish("events.acme.order", `{"total":1}`, "Fanfare-Test", "1"):                             event.BadTarget,
		h.publish("events.acme.order", `{"total":1}`, "Fanfare-Targets", uuid.NewString()):             event.BadTarget,
		h.publish("events.acme", `{}`):                                                                 event.BadSubject,
		h.publish("events.ac\x00me.order", `{}`):                                                       event.BadSubject,
		h.publish("events.acme.order", `{}`):                                                           event.SchemaViolation,
		h.publish("events.acme.costly", strings.Repeat(`{"a":`, 60)+`{"b":1}`+strings.Repeat("}", 60)): event.TooCostly,
		h.publish("events.acme.unknown", `{}`):                                                         event.UnknownType,
		h.publish("events.acme.old", `{}`):                                                             event.ArchivedType,
		h.publish("events.acme.order", `{"total":1}`, "ce-specversion", "1.0", "ce-type", "old"):       event.BadSubject,
	}
	h.publish("events.acme.order", `{"total":1}`, "Fanfare-Id", "good")
	// What ingest has answered for is not judged again, whatever was declared meanwhile.
	h.publish("events.acme.old", `{}`, "Fanfare-Id", "answered_for", "Fanfare-Checked", "1")
	h.settled()
	got := h.quarantined()
	for seq, reason := range want {
		if got[seq] != reason {
			t.Errorf("message %d: reason %q, want %q", seq, got[seq], reason)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d messages in quarantine, want %d", len(got), len(want))
	}
	if rows := h.rows(); len(rows) != 2 {
		t.Errorf("the ledger has %v, want good and answered_for", rows)
	}
	var kept int
	if err := h.db.QueryRow("SELECT max(length(data)) FROM quarantine").Scan(&kept); err != nil || kept != 4<<10 {
		t.Errorf("at most %d bytes of a message are kept (%v), want 4096", kept, err)
	}
}

func TestTargetsAreTheOnlyOnesAndPausedOnesToo(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.subscribe("acme", "*")
	active, paused, disabled := h.subscribe("acme", "other"), h.subscribe("acme", "other"), h.subscribe("acme", "other")
	h.status(paused, subscriptions.Paused)
	h.status(disabled, subscriptions.Disabled)
	h.run()
	list := strings.Join([]string{active.ID.String(), paused.ID.String(), disabled.ID.String(), active.ID.String()}, ",")
	h.publish("events.acme.order", `{}`, "Fanfare-Id", "e", "Fanfare-Targets", list)
	h.settled()
	got := h.tray.targets()["e"]
	if len(got) != 2 || got[active.ID] != 1 || got[paused.ID] != 1 {
		t.Errorf("the event goes to %v, want %s and %s once each", got, active.ID, paused.ID)
	}
	// A test goes to a disabled one as well.
	h.publish("events.acme.order", `{}`, "Fanfare-Id", "test", "Fanfare-Targets", disabled.ID.String(), "Fanfare-Test", "1")
	h.settled()
	if got = h.tray.targets()["test"]; len(got) != 1 || got[disabled.ID] != 1 {
		t.Errorf("the test goes to %v, want %s once", got, disabled.ID)
	}
}

func TestTheSameIDIsFannedOutOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.subscribe("acme", "*")
	h.subscribe("globex", "*")
	h.run()
	h.reading()
	// Without a message id the stream keeps them all.
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { h.publish("events.acme.order", `{}`, "Fanfare-Id", "e") })
	}
	wg.Wait()
	h.publish("events.globex.order", `{}`, "Fanfare-Id", "e2")
	h.settled()
	if n := h.tray.targets()["e"][s.ID]; n != 1 {
		t.Errorf("50 messages of one id were fanned out %d times", n)
	}
	if rows := h.rows(); len(rows) != 2 || rows["e"] != 1 {
		t.Errorf("the ledger has %v", rows)
	}
}

func TestAnotherEventOfAnIDGoesToQuarantine(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.subscribe("acme", "*")
	h.run()
	h.publish("events.acme.order", `{"n":1}`, "Fanfare-Id", "e")
	h.settled()
	seq := h.publish("events.acme.order", `{"n":2}`, "Fanfare-Id", "e")
	h.publish("events.acme.order", `{"n":1}`, "Fanfare-Id", "e", "Fanfare-Time", "2026-11-20T10:00:00Z")
	h.settled()
	if got := h.quarantined(); len(got) != 1 || got[seq] != event.Conflict {
		t.Errorf("in quarantine are %v, want %d: id_conflict", got, seq)
	}
	if h.tray.targets()["e"][s.ID] != 1 {
		t.Error("the event was fanned out more than once")
	}
}

func TestAnIDIsFreeAgainAfterItsWindow(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.subscribe("acme", "*")
	for id, ago := range map[string]time.Duration{"old": fanout.IdempotencyWindow + time.Minute, "young": fanout.IdempotencyWindow - time.Minute} {
		e := fanout.Event{ID: id, Tenant: "acme", Type: "order", Time: time.Now(), AcceptedAt: time.Now().Add(-ago), Data: []byte(`{}`)}
		e.UID = event.UID(e.Tenant, e.ID, e.AcceptedAt)
		if err := h.ledger.Record(t.Context(), &e, 0); err != nil {
			t.Fatal(err)
		}
	}
	h.run()
	h.publish("events.acme.order", `{}`, "Fanfare-Id", "old")
	h.publish("events.acme.order", `{}`, "Fanfare-Id", "young")
	h.settled()
	if got := h.tray.targets(); got["old"][s.ID] != 1 || got["young"] != nil {
		t.Errorf("fanned out were %v, want old alone", got)
	}
}

func TestWhatTheLedgerHasIsNotFannedOutAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.subscribe("acme", "*")
	stop := h.run()
	const n = 50
	for i := range n {
		h.publish("events.acme.order", `{}`) // with ids that Fanfare makes
		h.publish("events.acme.order", `{}`, "Fanfare-Id", fmt.Sprint("e", i))
	}
	h.settled()
	stop()
	if len(h.tray.all()) != 2*n {
		t.Fatalf("%d tasks, want %d", len(h.tray.all()), 2*n)
	}
	// A consumer that is made anew hands everything out again, for the first time by its own account.
	if err := h.js.DeleteConsumer(t.Context(), fanout.Stream, fanout.Durable); err != nil {
		t.Fatal(err)
	}
	h.apply()
	h.publish("events.acme.order", `{}`, "Fanfare-Id", "new")
	h.run()
	h.settled()
	if len(h.tray.all()) != 2*n+1 || h.tray.targets()["new"][s.ID] != 1 {
		t.Errorf("%d tasks after all messages came again and one anew, want %d", len(h.tray.all()), 2*n+1)
	}
	last := h.tray.all()[2*n]
	if !last.Suspect {
		t.Error("an event that was in the stream before the session began is not suspect")
	}
}

func TestKilledBetweenHandOverAndLedger(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.cfg.DrainTimeout = 50 * time.Millisecond
	s := h.subscribe("acme", "*")
	stop := h.run()
	h.reading()
	// The tasks are on disk, and then Postgres is gone, and then the process.
	handedOver := make(chan struct{}, 1)
	h.tray.do(func([]deliver.Task) error {
		h.line.sever()
		handedOver <- struct{}{}
		return nil
	})
	h.publish("events.acme.order", `{}`, "Fanfare-Id", "e")
	<-handedOver
	stop()
	h.tray.do(nil)
	h.line.mend()
	h.run()
	h.settled()
	if n := h.tray.targets()["e"][s.ID]; n != 2 {
		t.Fatalf("the event was handed over %d times, want twice", n)
	}
	tasks := h.tray.all()
	if tasks[0].Suspect || !tasks[1].Suspect {
		t.Errorf("suspect are %v and %v, want only the second", tasks[0].Suspect, tasks[1].Suspect)
	}
	if tasks[0].Event.UID != tasks[1].Event.UID {
		t.Error("the same event got another uid")
	}
}

func TestAProcessThatWasStoppedAsksTheLedger(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]int{"nobody else had it": 1, "another had it meanwhile": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			s, id := h.subscribe("acme", "*"), uuid.Must(uuid.NewV7()).String()
			// The clock is first read when the event comes, and then before it is handed over: a minute later.
			var reads atomic.Int32
			h.now = func() time.Time {
				if reads.Add(1) == 1 {
					return time.Now()
				}
				if meanwhile == 0 && reads.Load() == 2 {
					h.recordLast(id)
				}
				return time.Now().Add(time.Minute)
			}
			h.run()
			h.reading()
			h.publish("events.acme.order", `{}`, "Fanfare-Id", id, "Fanfare-Made", "1")
			h.settled()
			tasks := h.tray.all()
			if len(tasks) != meanwhile || h.tray.targets()[id][s.ID] != meanwhile {
				t.Fatalf("%d tasks, want %d", len(tasks), meanwhile)
			}
			if meanwhile == 1 && !tasks[0].Suspect {
				t.Error("what is handed over after such a time is not suspect")
			}
		})
	}
}

// recordLast records the last message of the stream as another process would.
func (h *house) recordLast(id string) {
	stream, err := h.js.Stream(h.t.Context(), fanout.Stream)
	if err != nil {
		h.t.Error(err)
		return
	}
	e, err := fanout.NewReader(h.js).Read(h.t.Context(), stream.CachedInfo().State.LastSeq)
	if err != nil || e.ID != id {
		h.t.Errorf("the last event is %v (%v), want %s", e, err, id)
		return
	}
	if err := h.ledger.Record(h.t.Context(), e, 1); err != nil {
		h.t.Error(err)
	}
}

func TestPostgresAwayAndBack(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.subscribe("acme", "*")
	h.run()
	h.publish("events.acme.order", `{}`, "Fanfare-Id", "before")
	h.settled()
	h.line.sever()
	for i := range 20 {
		h.publish("events.acme.order", `{}`, "Fanfare-Id", fmt.Sprint("during", i))
		h.publish("events.acme.order", `{`)
	}
	if n := len(h.tray.all()); n != 1 {
		t.Errorf("%d tasks were made while Postgres was away", n-1)
	}
	h.line.mend()
	h.settled()
	got := h.tray.targets()
	for i := range 20 {
		if got[fmt.Sprint("during", i)][s.ID] != 1 {
			t.Errorf("event during%d was fanned out %d times", i, got[fmt.Sprint("during", i)][s.ID])
		}
	}
	if len(h.rows()) != 21 || len(h.quarantined()) != 20 {
		t.Errorf("%d rows and %d in quarantine, want 21 and 20", len(h.rows()), len(h.quarantined()))
	}
}

func TestAFailedHandOverIsSuspectTheNextTime(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]error{"away": jetstream.ErrUnavailable, "full": jetstream.ErrFull, "other": errors.New("odd")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			s := h.subscribe("acme", "*")
			var tries atomic.Int32
			h.tray.do(func(tasks []deliver.Task) error {
				if tries.Add(1) == 1 {
					if tasks[0].Suspect {
						t.Error("the first hand-over is suspect")
					}
					return fmt.Errorf("send tasks: %w", away)
				}
				return nil
			})
			h.run()
			h.reading()
			h.publish("events.acme.order", `{}`, "Fanfare-Id", "e")
			h.settled()
			if tasks := h.tray.all(); len(tasks) != 1 || !tasks[0].Suspect {
				t.Errorf("tasks are %+v, want one that is suspect", tasks)
			}
			if h.rows()["e"] != 1 || h.tray.targets()["e"][s.ID] != 1 {
				t.Errorf("the ledger has %v", h.rows())
			}
		})
	}
}

func TestPoisonIsPutAway(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.subscribe("acme", "*")
	h.tray.do(func(tasks []deliver.Task) error {
		if tasks[0].Event.ID == "poison" {
			panic("the event is poison")
		}
		return nil
	})
	h.run()
	seq := h.publish("events.acme.order", `{}`, "Fanfare-Id", "poison")
	h.publish("events.acme.order", `{}`, "Fanfare-Id", "good")
	h.settled()
	if got := h.quarantined(); len(got) != 1 || got[seq] != event.Internal {
		t.Errorf("in quarantine are %v, want %d: internal", got, seq)
	}
	if h.tray.targets()["good"][s.ID] != 1 {
		t.Error("another event suffered from the poison")
	}
}

func TestSeveralProcessesShareTheWork(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.subscribe("acme", "*")
	h.run()
	h.run()
	stop := h.run()
	const n = 300
	for i := range n {
		h.publish("events.acme.order", `{}`, "Fanfare-Id", fmt.Sprint("e", i))
		if i == n/2 {
			stop()
		}
	}
	h.settled()
	got := h.tray.targets()
	for i := range n {
		if got[fmt.Sprint("e", i)][s.ID] != 1 {
			t.Errorf("event e%d was fanned out %d times", i, got[fmt.Sprint("e", i)][s.ID])
		}
	}
	if len(h.rows()) != n {
		t.Errorf("%d rows, want %d", len(h.rows()), n)
	}
}

func TestConfigNamesTheVariable(t *testing.T) {
	t.Parallel()
	if err := fanout.DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	for variable, change := range map[string]func(*fanout.Config){
		"FANFARE_EVENT_TYPES":          func(c *fanout.Config) { c.EventTypes = "closed" },
		"FANFARE_EVENT_MAX_DATA":       func(c *fanout.Config) { c.MaxData = 1 << 20 },
		"FANFARE_EVENTS_MAX_AGE":       func(c *fanout.Config) { c.EventsMaxAge = 0 },
		"FANFARE_EVENTS_MAX_BYTES":     func(c *fanout.Config) { c.EventsMaxBytes = 0 },
		"FANFARE_FANOUT_MAX_IN_FLIGHT": func(c *fanout.Config) { c.MaxInFlight = 5000 },
		"FANFARE_FANOUT_DRAIN_TIMEOUT": func(c *fanout.Config) { c.DrainTimeout = -1 },
	} {
		cfg := fanout.DefaultConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), variable) {
			t.Errorf("Validate says %v, want it to name %s", err, variable)
		}
	}
}

func TestTheBrokerRestarts(t *testing.T) {
	t.Parallel()
	cfg := embedded.NATSConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0", SyncAlways: true}
	first, err := embedded.StartNATS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	address, err := url.Parse(first.AdminURL())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listen = address.Host
	nc, err := jetstream.Connect(t.Context(), first.AdminURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	h := newHouseOn(t, nc)
	s := h.subscribe("acme", "*")
	h.run()
	const n = 100
	for i := range n {
		h.publish("events.acme.order", `{}`, "Fanfare-Id", fmt.Sprint("e", i))
	}
	// Some are fanned out, some are not, and the broker forgets which.
	first.Shutdown()
	again, err := embedded.StartNATS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Shutdown)
	// It may not have noticed yet that the first one is gone.
	h.eventually("the connection is back", func() bool { return nc.Stats().Reconnects > 0 && nc.IsConnected() })
	for i := range n {
		h.publish("events.acme.order", `{}`, "Fanfare-Id", fmt.Sprint("f", i))
	}
	h.settled()
	got := h.tray.targets()
	for i := range n {
		for _, id := range []string{fmt.Sprint("e", i), fmt.Sprint("f", i)} {
			if got[id][s.ID] != 1 {
				t.Errorf("event %s was fanned out %d times", id, got[id][s.ID])
			}
		}
	}
	if len(h.rows()) != 2*n {
		t.Errorf("%d rows, want %d", len(h.rows()), 2*n)
	}
}
