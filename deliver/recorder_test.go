package deliver_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// recorded draws what may be said of one delivery, in order: it is put off so many times, and then ends or not.
func recorded(t *rapid.T) []*outcome.Record {
	base := someDelivery()
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	var list []*outcome.Record
	step := 0
	add := func(as outcome.Outcome, reason outcome.Reason) {
		r := became(base, as, reason, at.Add(time.Duration(step)*time.Minute))
		step += rapid.IntRange(1, 3).Draw(t, "steps") // leases and hand-offs take steps as well
		r.Step = step
		if rapid.Bool().Draw(t, "attempted") {
			base.Attempts++
			r.Attempts = base.Attempts
			r.Attempt = &outcome.Made{Number: base.Attempts, StartedAt: at, Micros: 5, Status: 500, Error: "e", Response: []byte("r"), Reason: reason}
		}
		if rapid.Bool().Draw(t, "kept") {
			r.Event = []byte("event")
		}
		list = append(list, r)
	}
	for range rapid.IntRange(0, 4).Draw(t, "put off") {
		add(outcome.Later, rapid.SampledFrom([]outcome.Reason{outcome.ReasonServer, outcome.ReasonBusy, outcome.ReasonTimeout}).Draw(t, "reason"))
	}
	if len(list) == 0 || rapid.Bool().Draw(t, "ended") {
		add(rapid.SampledFrom([]outcome.Outcome{outcome.Delivered, outcome.Dead, outcome.Cancelled}).Draw(t, "outcome"), outcome.ReasonOK)
	}
	return list
}

// expected is what the ledger must hold of a delivery after its history.
func expected(history []*outcome.Record) string {
	last := history[len(history)-1]
	attempts, kept := 0, 0
	for _, r := range history {
		if !r.Ended() && r.Attempt != nil {
			attempts++
		}
		if r.Event != nil {
			kept = 1
		}
	}
	return facts{last.Ended(), last.Outcome, last.Step, last.Attempts, attempts, kept}.String()
}

// facts are what the test compares.
type facts struct {
	ended                       bool
	outcome                     outcome.Outcome
	step, count, attempts, kept int
}

func (f facts) String() string {
	if f.ended {
		return fmt.Sprintf("%s after %d, attempts %d, events %d", f.outcome, f.count, f.attempts, f.kept)
	}
	return fmt.Sprintf("pending at step %d after %d, attempts %d, events %d", f.step, f.count, f.attempts, f.kept)
}

// found is what the ledger holds of a delivery.
func (r *rig) found(id, event uuid.UUID) string {
	r.T.Helper()
	var list []string
	rows, err := r.DB.Query(`
SELECT true, state, 0, attempts FROM deliveries WHERE id = $1 UNION ALL SELECT false, '', step, attempts FROM deferrals WHERE id = $1`, id)
	if err != nil {
		r.T.Fatal(err)
	}
	defer rows.Close()
	attempts := r.Count(`SELECT count(*) FROM attempts WHERE delivery_id = $1`, id)
	kept := r.Count(`SELECT count(*) FROM event_data WHERE uid = $1`, event)
	for rows.Next() {
		var ended bool
		var outcome outcome.Outcome
		var step, count int
		if err := rows.Scan(&ended, &outcome, &step, &count); err != nil {
			r.T.Fatal(err)
		}
		list = append(list, facts{ended, outcome, step, count, attempts, kept}.String())
	}
	return strings.Join(list, " and ")
}

// Whatever is recorded again, in whatever order and groups and by how many: the ledger is the same.
func TestTheLedgerDoesNotCareHowOftenAndInWhichOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	rapid.Check(t, func(t *rapid.T) {
		var histories [][]*outcome.Record
		var all []*outcome.Record
		for range rapid.IntRange(1, 6).Draw(t, "deliveries") {
			h := recorded(t)
			histories = append(histories, h)
			all = append(all, h...)
		}
		for range rapid.IntRange(0, 10).Draw(t, "replays") {
			all = append(all, rapid.SampledFrom(all).Draw(t, "replay"))
		}
		writers := rapid.IntRange(1, 2).Draw(t, "recorders")
		var wg sync.WaitGroup
		for range writers {
			order := rapid.Permutation(all).Draw(t, "order")
			size := rapid.IntRange(1, len(order)).Draw(t, "group")
			l := ledger.New(r.DB)
			wg.Go(func() {
				for group := range slices.Chunk(order, size) {
					if err := l.Write(r.T.Context(), group); err != nil {
						t.Errorf("write: %v", err)
					}
				}
				l.Close()
			})
		}
		wg.Wait()
		for _, h := range histories {
			got, want := r.found(h[0].Delivery, h[0].EventUID), expected(h)
			// Two that write at once may leave the row of a delivery that ended; the next claim removes it.
			if got != want && (writers == 1 || !strings.HasPrefix(got, want)) {
				t.Fatalf("got %s, want %s", got, want)
			}
		}
	})
}

// A row that is left of a race is not flown.
func TestALeftoverIsNotSentAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	receiver := servertest.NewReceiver(t)
	sub := r.subscribe(receiver.URL, nil)
	e := r.event()
	d := delivery(e, sub.ID)
	r.put(became(d, outcome.Later, outcome.ReasonServer, time.Now()))
	r.put(became(d, outcome.Delivered, outcome.ReasonOK, time.Now())) // of the same step, as if nobody knew of the row
	if list := must(history.NewReader(r.DB, nil).Whole(t.Context(), history.Filter{Limit: 10}))(t); len(list) != 1 || list[0].State != "delivered" {
		t.Errorf("the list shows %+v, want the delivery once, as delivered", list)
	}
	r.worker(quick())
	r.Eventually("the leftover to be gone", func() bool { return r.Count(`SELECT count(*) FROM deferrals`) == 0 })
	if n := len(receiver.Requests()); n != 0 {
		t.Errorf("got %d requests, want none", n)
	}
}

// A delivery that two workers made at once ends by the first attempt of one after the other has made a second: it counts both.
func TestASuccessCountsTheAttemptsOfAnotherWorker(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := ledger.New(r.DB)
	for _, tt := range []struct {
		name  string
		step  int // of the success: it knew of no row, or had a lease
		order [3]int
	}{
		{"after both", 1, [3]int{0, 1, 2}}, {"between", 1, [3]int{0, 2, 1}}, {"after both, leased", 2, [3]int{0, 1, 2}}, {"between, leased", 2, [3]int{0, 2, 1}},
	} {
		d := someDelivery()
		var records []*outcome.Record
		for i, as := range []outcome.Outcome{outcome.Later, outcome.Later, outcome.Delivered} {
			rec := became(d, as, outcome.ReasonServer, time.Now())
			rec.Step, rec.Attempts = 1+2*i, i+1
			if as == outcome.Delivered {
				rec.Step, rec.Attempts = tt.step, 1
			}
			rec.Attempt = &outcome.Made{Number: rec.Attempts, StartedAt: time.Now(), Micros: 5, Status: 500, Reason: rec.Reason}
			records = append(records, rec)
		}
		for _, i := range tt.order {
			if err := l.Write(t.Context(), []*outcome.Record{records[i]}); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.DropLeftovers(t.Context(), []uuid.UUID{d.Delivery}); err != nil {
			t.Fatal(err)
		}
		if got, want := r.found(d.Delivery, d.EventUID), "delivered after 2, attempts 2, events 0"; got != want {
			t.Errorf("%s: got %s, want %s", tt.name, got, want)
		}
	}
}

// A delivery that two workers made at once ends by the first attempt of one while the other has a lease of it: it counts what that ends with.
func TestAnEndAfterTheEndCountsItsAttempts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := ledger.New(r.DB)
	d := someDelivery()
	for _, made := range []struct {
		as       outcome.Outcome
		step     int
		attempts int
	}{{outcome.Later, 1, 1}, {outcome.Later, 3, 2}, {outcome.Delivered, 1, 1}, {outcome.Delivered, 5, 3}} {
		rec := became(d, made.as, outcome.ReasonServer, time.Now())
		rec.Step, rec.Attempts = made.step, made.attempts
		rec.Attempt = &outcome.Made{Number: made.attempts, StartedAt: time.Now(), Micros: 5, Status: 500, Reason: rec.Reason}
		for range 2 { // Records come again.
			if err := l.Write(t.Context(), []*outcome.Record{rec}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, want := r.found(d.Delivery, d.EventUID), "delivered after 3, attempts 2, events 0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// What a worker says that lost its lease is void, unless it says that it delivered.
func TestALateWordIsVoid(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := ledger.New(r.DB)
	for _, tt := range []struct {
		late outcome.Outcome
		want string
	}{
		{outcome.Later, "pending at step 3 after 0, attempts 0, events 0"},
		{outcome.Dead, "pending at step 3 after 0, attempts 0, events 0"},
		{outcome.Delivered, "delivered after 0, attempts 0, events 0"},
	} {
		d := someDelivery()
		first := became(d, outcome.Later, outcome.ReasonServer, time.Now().Add(-time.Second))
		if err := l.Write(t.Context(), []*outcome.Record{first}); err != nil {
			t.Fatal(err)
		}
		for _, worker := range []string{"one", "two"} {
			// The second takes over a lease of no length that the first let lapse.
			got := claimAll(t, l, 10, ledger.DueSpan{Back: ever, Lapsed: time.Now().Add(time.Hour)}, ledger.Lease{Worker: worker})
			if len(got) != 1 {
				t.Fatalf("%s claimed %d, want 1", worker, len(got))
			}
		}
		word := became(d, tt.late, outcome.ReasonTimeout, time.Now())
		word.Step = 3 // that of the first worker, whose lease was step 2
		if err := l.Write(t.Context(), []*outcome.Record{word}); err != nil {
			t.Fatal(err)
		}
		if got := r.found(d.Delivery, d.EventUID); got != tt.want {
			t.Errorf("after a late %s: got %s, want %s", tt.late, got, tt.want)
		}
		if _, err := r.DB.Exec(`DELETE FROM deferrals`); err != nil {
			t.Fatal(err)
		}
	}
}

// What cannot be read or written goes to quarantine; the rest goes on.
func TestPoisonGoesToQuarantine(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	publisher := r.publisher(r.JS)
	for _, subject := range []string{"tasks.now", ledger.AttemptsSubject} {
		if _, err := publisher.Send(t.Context(), subject, &message.Message{Payload: []byte("poison")}); err != nil {
			t.Fatal(err)
		}
	}
	j := ledger.NewJournal(publisher)
	bad := became(someDelivery(), outcome.Dead, outcome.ReasonServer, time.Now())
	bad.Attempt = &outcome.Made{Number: 1, Status: 1 << 20} // beyond what a status can be
	if err := j.Write(t.Context(), []*outcome.Record{bad}, ledger.TaskWaits); err != nil {
		t.Fatal(err)
	}
	receiver := servertest.NewReceiver(t)
	sub := r.subscribe(receiver.URL, nil)
	id := r.send(r.event(), sub)
	r.recorder()
	r.ended(id, outcome.Delivered, outcome.ReasonOK)
	r.settled()
	if n := r.Count(`SELECT count(*) FROM quarantine`); n != 3 {
		t.Errorf("%d messages are in quarantine, want 3", n)
	}
}

// Whatever a receiver answers can be recorded.
func TestOddResponsesAreRecorded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Reply(500, nil, "a\x00b"), servertest.Reply(500, nil, "\xff\xfe"), servertest.Reply(500, nil, `{"\"}`), servertest.Status(200))
	sub := r.subscribe(receiver.URL, retries(time.Millisecond, time.Millisecond, time.Millisecond))
	id := r.send(r.event(), sub)
	r.ended(id, outcome.Delivered, outcome.ReasonOK)
	r.settled()
	log := must(history.NewReader(r.DB, nil).Attempts(t.Context(), "acme", id))(t)
	if len(log) != 4 || string(log[0].Response) != "ab" || string(log[2].Response) != `{"\"}` {
		t.Errorf("got %+v", log)
	}
}

func TestTheTrimmerRemovesWhatIsDone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(unhurried())
	r.recorder()
	receiver := servertest.NewReceiver(t)
	sub := r.subscribe(receiver.URL, nil)
	for range 5 {
		r.ended(r.send(r.event(), sub), outcome.Delivered, outcome.ReasonOK)
	}
	r.settled()
	keeping := r.trimmer(deliver.Config{AttemptsKeep: time.Hour})
	gone := func() bool { return r.messages(deliver.Stream) == 0 }
	r.Eventually("the tasks to be gone", gone)
	r.ended(r.send(r.event(), sub), outcome.Delivered, outcome.ReasonOK)
	r.settled()
	r.Eventually("the next task to be gone, in the next round", gone)
	if err := keeping.Stop(); err != nil {
		t.Fatal(err)
	}
	if n := r.messages(ledger.Stream); n != 6 {
		t.Errorf("%d outcomes are left, want 6, which are young", n)
	}
	r.trimmer(deliver.Config{AttemptsKeep: time.Nanosecond})
	r.Eventually("the outcomes to be gone", func() bool { return r.messages(ledger.Stream) == 0 })
	// And what comes after is still told from what was.
	r.ended(r.send(r.event(), sub), outcome.Delivered, outcome.ReasonOK)
}

// One record that Postgres refuses does not take the others of its message with it: they are recorded, its own delivery ends as
// it did, and the record is in quarantine.
func TestABadRecordIsRefusedAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const n = 500
	bad := map[int]bool{3: true, 250: true}
	var records []*outcome.Record
	for i := range n {
		at := time.Now().UTC()
		rec := became(someDelivery(), outcome.Delivered, outcome.ReasonOK, at)
		rec.Attempts = 1
		rec.Attempt = &outcome.Made{Number: 1, StartedAt: at, Micros: 1, Status: 200, Reason: outcome.ReasonOK}
		if bad[i] {
			rec.Attempt.Status = 1 << 20 // beyond what a status can be
			rec.EventType = "\xff"
		}
		records = append(records, rec)
	}
	if err := ledger.NewJournal(r.publisher(r.JS)).Write(t.Context(), records, ledger.TaskWaits); err != nil {
		t.Fatal(err)
	}
	if got := must(r.JS.Stream(t.Context(), ledger.Stream))(t).CachedInfo().State.Msgs; got != 1 {
		t.Fatalf("the records are in %d messages, want one", got)
	}
	r.recorder()
	r.settled()
	if got := r.Count(`SELECT count(*) FROM deliveries WHERE state = 'delivered' AND attempts = 1`); got != n {
		t.Errorf("%d deliveries are recorded, want all %d", got, n)
	}
	if got := r.Count(`SELECT count(*) FROM quarantine WHERE reason = 'internal' AND tenant = 'acme'`); got != len(bad) {
		t.Errorf("%d records are in quarantine, want %d", got, len(bad))
	}
	for i := range bad {
		log := must(history.NewReader(r.DB, nil).Attempts(t.Context(), "acme", records[i].Delivery))(t)
		if len(log) != 1 || log[0].Number != 1 || !strings.Contains(log[0].Error, "quarantine") {
			t.Errorf("the attempt of record %d is shown as %+v", i, log)
		}
	}
}
