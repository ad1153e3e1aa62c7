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
	"github.com/fanfarehq/fanfare/fanout/fanouttest"
	"github.com/fanfarehq/fanfare/internal/embedded"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/subscriptions"
)

func TestAnEventOfAnyClientIsFannedOut(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	want, other := h.Subscribe("acme", "order.*"), h.Subscribe("acme", "invoice.paid")
	h.Subscribe("globex", "order.*")
	h.Run()
	h.Reading()
	seq := h.Publish("events.acme.order.created", `{"total": 12.50}`, "Nats-Msg-Id", "acme.evt_17", "Fanfare-Changed", "status")
	h.Publish("events.acme.nobody.cares", `1`, "Fanfare-Id", "evt_18")
	h.Settled()

	tasks := h.Tray.All()
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
	if rows := h.Rows(); len(rows) != 2 || rows["evt_17"] != 1 || rows["evt_18"] != 0 {
		t.Errorf("the ledger has %v", rows)
	}
}

// A broker that dies between a hand-over and its record may have lost the tasks.
func TestTasksOfABrokerThatDiedAreHandedOverAgain(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	h.Subscribe("acme", "order.*")
	var asked atomic.Int64
	h.Broker = func() string { return fmt.Sprint(min(asked.Add(1), 2)) } // another one from the second question on
	h.Run()
	h.Reading()
	h.Publish("events.acme.order.created", `{}`, "Fanfare-Id", "e")
	h.Settled()
	if tasks := h.Tray.All(); len(tasks) != 2 || tasks[0].Suspect || !tasks[1].Suspect {
		t.Errorf("tasks are %+v, want one and its repetition, which is suspect", tasks)
	}
	if rows := h.Rows(); len(rows) != 1 || rows["e"] != 1 {
		t.Errorf("the ledger has %v", rows)
	}
}

func TestManyTargetsAreManyTasks(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	for range 130 {
		h.Subscribe("acme", "*")
	}
	h.Run()
	h.Publish("events.acme.order.created", `{}`, "Fanfare-Id", "e")
	h.Settled()
	if n := len(h.Tray.All()); n != 3 {
		t.Errorf("130 targets made %d tasks, want 3", n)
	}
	for id, times := range h.Tray.Targets()["e"] {
		if times != 1 {
			t.Errorf("%s is to get the event %d times", id, times)
		}
	}
	if n := len(h.Tray.Targets()["e"]); n != 130 {
		t.Errorf("%d targets, want 130", n)
	}
}

func TestAChangeIsSeenByTheNextEvent(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	h.Run()
	for i := range 30 {
		s := h.Subscribe("acme", fmt.Sprintf("t%d", i))
		id := fmt.Sprintf("made_%d", i)
		h.Publish("events.acme."+s.EventTypes[0], `{}`, "Fanfare-Id", id)
		h.Settled()
		if h.Tray.Targets()[id][s.ID] != 1 {
			t.Fatalf("event %s missed a subscription that was there before it", id)
		}
		if err := h.Store.Delete(t.Context(), "acme", s.ID); err != nil {
			t.Fatal(err)
		}
		id = fmt.Sprintf("gone_%d", i)
		h.Publish("events.acme."+s.EventTypes[0], `{}`, "Fanfare-Id", id)
		h.Settled()
		if len(h.Tray.Targets()[id]) != 0 {
			t.Fatalf("event %s went to a subscription that was deleted before it", id)
		}
	}
}

func TestWhatIsNoEventGoesToQuarantine(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	h.Config.EventTypes = fanout.Strict
	h.Declare("acme", "order", `{"type":"object","required":["total"]}`, false)
	h.Declare("acme", "costly", `{"anyOf":[{"properties":{"a":{"$ref":"#"}}},{"required":["a"],"properties":{"a":{"$ref":"#"}}}],"not":{"required":["b"]}}`, false)
	h.Declare("acme", "old", ``, true)
	foreign := h.Subscribe("globex", "*")
	h.Run()
	h.Reading()
	want := map[uint64]event.Reason{
		h.Publish("events.acme.order", `{"total":`):                                                    event.BadData,
		h.Publish("events.acme.order", ``):                                                             event.BadData,
		h.Publish("events.acme.order", `{"a":1,"a":2}`):                                                event.BadData,
		h.Publish("events.acme.order", "\"\xff\""):                                                     event.BadData,
		h.Publish("events.acme.order", "\xef\xbb\xbf{}"):                                               event.BadData,
		h.Publish("events.acme.order", `"\ud800"`):                                                     event.BadData,
		h.Publish("events.acme.order", `{} {}`):                                                        event.BadData,
		h.Publish("events.acme.order", strings.Repeat("[", 65)+strings.Repeat("]", 65)):                event.TooDeep,
		h.Publish("events.acme.order", strings.Repeat("[", 500_000)):                                   event.TooLarge,
		h.Publish("events.acme.order", `"`+strings.Repeat("a", 256<<10)+`"`):                           event.TooLarge,
		h.Publish("events.acme.order", `{"total":1}`, "Fanfare-Id", "a.b"):                             event.BadID,
		h.Publish("events.acme.order", `{"total":1}`, "Fanfare-Targets", foreign.ID.String()):          event.BadTarget,
		h.Publish("events.acme.order", `{"total":1}`, "Fanfare-Test", "1"):                             event.BadTarget,
		h.Publish("events.acme.order", `{"total":1}`, "Fanfare-Targets", uuid.NewString()):             event.BadTarget,
		h.Publish("events.acme", `{}`):                                                                 event.BadSubject,
		h.Publish("events.ac\x00me.order", `{}`):                                                       event.BadSubject,
		h.Publish("events.acme.order", `{}`):                                                           event.SchemaViolation,
		h.Publish("events.acme.costly", strings.Repeat(`{"a":`, 60)+`{"b":1}`+strings.Repeat("}", 60)): event.TooCostly,
		h.Publish("events.acme.unknown", `{}`):                                                         event.UnknownType,
		h.Publish("events.acme.old", `{}`):                                                             event.ArchivedType,
		h.Publish("events.acme.order", `{"total":1}`, "ce-specversion", "1.0", "ce-type", "old"):       event.BadSubject,
	}
	h.Publish("events.acme.order", `{"total":1}`, "Fanfare-Id", "good")
	// What ingest has answered for is not judged again, whatever was declared meanwhile.
	h.Publish("events.acme.old", `{}`, "Fanfare-Id", "answered_for", "Fanfare-Checked", "1")
	h.Settled()
	got := h.Quarantined()
	for seq, reason := range want {
		if got[seq] != reason {
			t.Errorf("message %d: reason %q, want %q", seq, got[seq], reason)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d messages in quarantine, want %d", len(got), len(want))
	}
	if rows := h.Rows(); len(rows) != 2 {
		t.Errorf("the ledger has %v, want good and answered_for", rows)
	}
	var kept int
	if err := h.DB.QueryRow("SELECT max(length(data)) FROM quarantine").Scan(&kept); err != nil || kept != 4<<10 {
		t.Errorf("at most %d bytes of a message are kept (%v), want 4096", kept, err)
	}
}

func TestTargetsAreTheOnlyOnesAndPausedOnesToo(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	h.Subscribe("acme", "*")
	active, paused, disabled := h.Subscribe("acme", "other"), h.Subscribe("acme", "other"), h.Subscribe("acme", "other")
	h.Status(paused, subscriptions.Paused)
	h.Status(disabled, subscriptions.Disabled)
	h.Run()
	list := strings.Join([]string{active.ID.String(), paused.ID.String(), disabled.ID.String(), active.ID.String()}, ",")
	h.Publish("events.acme.order", `{}`, "Fanfare-Id", "e", "Fanfare-Targets", list)
	h.Settled()
	got := h.Tray.Targets()["e"]
	if len(got) != 2 || got[active.ID] != 1 || got[paused.ID] != 1 {
		t.Errorf("the event goes to %v, want %s and %s once each", got, active.ID, paused.ID)
	}
	// A test goes to a disabled one as well.
	h.Publish("events.acme.order", `{}`, "Fanfare-Id", "test", "Fanfare-Targets", disabled.ID.String(), "Fanfare-Test", "1")
	h.Settled()
	if got = h.Tray.Targets()["test"]; len(got) != 1 || got[disabled.ID] != 1 {
		t.Errorf("the test goes to %v, want %s once", got, disabled.ID)
	}
}

func TestTheSameIDIsFannedOutOnce(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	s := h.Subscribe("acme", "*")
	h.Subscribe("globex", "*")
	h.Run()
	h.Reading()
	// Without a message id the stream keeps them all.
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { h.Publish("events.acme.order", `{}`, "Fanfare-Id", "e") })
	}
	wg.Wait()
	h.Publish("events.globex.order", `{}`, "Fanfare-Id", "e2")
	h.Settled()
	if n := h.Tray.Targets()["e"][s.ID]; n != 1 {
		t.Errorf("50 messages of one id were fanned out %d times", n)
	}
	if rows := h.Rows(); len(rows) != 2 || rows["e"] != 1 {
		t.Errorf("the ledger has %v", rows)
	}
}

func TestAnotherEventOfAnIDGoesToQuarantine(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	s := h.Subscribe("acme", "*")
	h.Run()
	h.Publish("events.acme.order", `{"n":1}`, "Fanfare-Id", "e")
	h.Settled()
	seq := h.Publish("events.acme.order", `{"n":2}`, "Fanfare-Id", "e")
	h.Publish("events.acme.order", `{"n":1}`, "Fanfare-Id", "e", "Fanfare-Time", "2026-11-20T10:00:00Z")
	h.Settled()
	if got := h.Quarantined(); len(got) != 1 || got[seq] != event.Conflict {
		t.Errorf("in quarantine are %v, want %d: id_conflict", got, seq)
	}
	if h.Tray.Targets()["e"][s.ID] != 1 {
		t.Error("the event was fanned out more than once")
	}
}

func TestAnIDIsFreeAgainAfterItsWindow(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	s := h.Subscribe("acme", "*")
	for id, ago := range map[string]time.Duration{"old": fanout.IdempotencyWindow + time.Minute, "young": fanout.IdempotencyWindow - time.Minute} {
		e := event.Event{ID: id, Tenant: "acme", Type: "order", Time: time.Now(), AcceptedAt: time.Now().Add(-ago), Data: []byte(`{}`)}
		e.UID = event.UID(e.Tenant, e.ID, e.AcceptedAt)
		if err := h.Ledger.Record(t.Context(), &e, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	h.Run()
	h.Publish("events.acme.order", `{}`, "Fanfare-Id", "old")
	h.Publish("events.acme.order", `{}`, "Fanfare-Id", "young")
	h.Settled()
	if got := h.Tray.Targets(); got["old"][s.ID] != 1 || got["young"] != nil {
		t.Errorf("fanned out were %v, want old alone", got)
	}
}

func TestWhatTheLedgerHasIsNotFannedOutAgain(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	s := h.Subscribe("acme", "*")
	stop := h.Run()
	const n = 50
	for i := range n {
		h.Publish("events.acme.order", `{}`) // with ids that Fanfare makes
		h.Publish("events.acme.order", `{}`, "Fanfare-Id", fmt.Sprint("e", i))
	}
	h.Settled()
	stop()
	if len(h.Tray.All()) != 2*n {
		t.Fatalf("%d tasks, want %d", len(h.Tray.All()), 2*n)
	}
	// A consumer that is made anew hands everything out again, for the first time by its own account.
	if err := h.JS.DeleteConsumer(t.Context(), fanout.Stream, fanout.Durable); err != nil {
		t.Fatal(err)
	}
	h.Apply()
	h.Publish("events.acme.order", `{}`, "Fanfare-Id", "new")
	h.Run()
	h.Settled()
	if len(h.Tray.All()) != 2*n+1 || h.Tray.Targets()["new"][s.ID] != 1 {
		t.Errorf("%d tasks after all messages came again and one anew, want %d", len(h.Tray.All()), 2*n+1)
	}
	last := h.Tray.All()[2*n]
	if !last.Suspect {
		t.Error("an event that was in the stream before the session began is not suspect")
	}
}

func TestKilledBetweenHandOverAndLedger(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	h.Config.DrainTimeout = 50 * time.Millisecond
	s := h.Subscribe("acme", "*")
	stop := h.Run()
	h.Reading()
	// The tasks are on disk, and then Postgres is gone, and then the process.
	handedOver := make(chan struct{}, 1)
	h.Tray.Do(func([]deliver.Task) error {
		h.Line.Sever()
		handedOver <- struct{}{}
		return nil
	})
	h.Publish("events.acme.order", `{}`, "Fanfare-Id", "e")
	<-handedOver
	stop()
	h.Tray.Do(nil)
	h.Line.Mend()
	h.Run()
	h.Settled()
	if n := h.Tray.Targets()["e"][s.ID]; n != 2 {
		t.Fatalf("the event was handed over %d times, want twice", n)
	}
	tasks := h.Tray.All()
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
			h := fanouttest.New(t)
			s, id := h.Subscribe("acme", "*"), uuid.Must(uuid.NewV7()).String()
			// The clock is first read when the event comes, and then before it is handed over: a minute later.
			var reads atomic.Int32
			h.Now = func() time.Time {
				if reads.Add(1) == 1 {
					return time.Now()
				}
				if meanwhile == 0 && reads.Load() == 2 {
					recordLast(h, id)
				}
				return time.Now().Add(time.Minute)
			}
			h.Run()
			h.Reading()
			h.Publish("events.acme.order", `{}`, "Fanfare-Id", id, "Fanfare-Made", "1")
			h.Settled()
			tasks := h.Tray.All()
			if len(tasks) != meanwhile || h.Tray.Targets()[id][s.ID] != meanwhile {
				t.Fatalf("%d tasks, want %d", len(tasks), meanwhile)
			}
			if meanwhile == 1 && !tasks[0].Suspect {
				t.Error("what is handed over after such a time is not suspect")
			}
		})
	}
}

// recordLast records the last message of the stream as another process would.
func recordLast(h *fanouttest.House, id string) {
	stream, err := h.JS.Stream(h.T.Context(), fanout.Stream)
	if err != nil {
		h.T.Error(err)
		return
	}
	e, err := fanout.NewReader(h.JS).Read(h.T.Context(), stream.CachedInfo().State.LastSeq)
	if err != nil || e.ID != id {
		h.T.Errorf("the last event is %v (%v), want %s", e, err, id)
		return
	}
	if err := h.Ledger.Record(h.T.Context(), e, 1, 0); err != nil {
		h.T.Error(err)
	}
}

func TestPostgresAwayAndBack(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	s := h.Subscribe("acme", "*")
	h.Run()
	h.Publish("events.acme.order", `{}`, "Fanfare-Id", "before")
	h.Settled()
	h.Line.Sever()
	for i := range 20 {
		h.Publish("events.acme.order", `{}`, "Fanfare-Id", fmt.Sprint("during", i))
		h.Publish("events.acme.order", `{`)
	}
	if n := len(h.Tray.All()); n != 1 {
		t.Errorf("%d tasks were made while Postgres was away", n-1)
	}
	h.Line.Mend()
	h.Settled()
	got := h.Tray.Targets()
	for i := range 20 {
		if got[fmt.Sprint("during", i)][s.ID] != 1 {
			t.Errorf("event during%d was fanned out %d times", i, got[fmt.Sprint("during", i)][s.ID])
		}
	}
	if len(h.Rows()) != 21 || len(h.Quarantined()) != 20 {
		t.Errorf("%d rows and %d in quarantine, want 21 and 20", len(h.Rows()), len(h.Quarantined()))
	}
}

func TestAFailedHandOverIsSuspectTheNextTime(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]error{"away": jetstream.ErrUnavailable, "full": jetstream.ErrFull, "other": errors.New("odd")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := fanouttest.New(t)
			s := h.Subscribe("acme", "*")
			var tries atomic.Int32
			h.Tray.Do(func(tasks []deliver.Task) error {
				if tries.Add(1) == 1 {
					if tasks[0].Suspect {
						t.Error("the first hand-over is suspect")
					}
					return fmt.Errorf("send tasks: %w", away)
				}
				return nil
			})
			h.Run()
			h.Reading()
			h.Publish("events.acme.order", `{}`, "Fanfare-Id", "e")
			h.Settled()
			if tasks := h.Tray.All(); len(tasks) != 1 || !tasks[0].Suspect {
				t.Errorf("tasks are %+v, want one that is suspect", tasks)
			}
			if h.Rows()["e"] != 1 || h.Tray.Targets()["e"][s.ID] != 1 {
				t.Errorf("the ledger has %v", h.Rows())
			}
		})
	}
}

func TestPoisonIsPutAway(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	s := h.Subscribe("acme", "*")
	h.Tray.Do(func(tasks []deliver.Task) error {
		if tasks[0].Event.ID == "poison" {
			panic("the event is poison")
		}
		return nil
	})
	h.Run()
	seq := h.Publish("events.acme.order", `{}`, "Fanfare-Id", "poison")
	h.Publish("events.acme.order", `{}`, "Fanfare-Id", "good")
	h.Settled()
	if got := h.Quarantined(); len(got) != 1 || got[seq] != event.Internal {
		t.Errorf("in quarantine are %v, want %d: internal", got, seq)
	}
	if h.Tray.Targets()["good"][s.ID] != 1 {
		t.Error("another event suffered from the poison")
	}
}

func TestSeveralProcessesShareTheWork(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	s := h.Subscribe("acme", "*")
	h.Run()
	h.Run()
	stop := h.Run()
	const n = 300
	for i := range n {
		h.Publish("events.acme.order", `{}`, "Fanfare-Id", fmt.Sprint("e", i))
		if i == n/2 {
			stop()
		}
	}
	h.Settled()
	got := h.Tray.Targets()
	for i := range n {
		if got[fmt.Sprint("e", i)][s.ID] != 1 {
			t.Errorf("event e%d was fanned out %d times", i, got[fmt.Sprint("e", i)][s.ID])
		}
	}
	if len(h.Rows()) != n {
		t.Errorf("%d rows, want %d", len(h.Rows()), n)
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
	nc, err := jetstream.Config{URL: first.AdminURL()}.Connect(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	h := fanouttest.NewOn(t, nc)
	s := h.Subscribe("acme", "*")
	h.Run()
	const n = 100
	for i := range n {
		h.Publish("events.acme.order", `{}`, "Fanfare-Id", fmt.Sprint("e", i))
	}
	// Some are fanned out, some are not, and the broker forgets which.
	first.Shutdown()
	again, err := embedded.StartNATS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Shutdown)
	// It may not have noticed yet that the first one is gone.
	h.Eventually("the connection is back", func() bool { return nc.Stats().Reconnects > 0 && nc.IsConnected() })
	for i := range n {
		h.Publish("events.acme.order", `{}`, "Fanfare-Id", fmt.Sprint("f", i))
	}
	h.Settled()
	got := h.Tray.Targets()
	for i := range n {
		for _, id := range []string{fmt.Sprint("e", i), fmt.Sprint("f", i)} {
			if got[id][s.ID] != 1 {
				t.Errorf("event %s was fanned out %d times", id, got[id][s.ID])
			}
		}
	}
	if len(h.Rows()) != 2*n {
		t.Errorf("%d rows, want %d", len(h.Rows()), 2*n)
	}
}
