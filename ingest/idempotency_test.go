package ingest_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/event"
)

func TestARepeatIsADuplicate(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	sub := h.subscribe("acme", "*")
	whole := func(change ...string) string {
		body := `{"type":"a","data":{"n":1},"id":"e","time":"2026-11-20T10:00:00Z","resource_ids":["1"],"object_id":"o","changed":["c"],"targets":["` + sub.ID.String() + `"]}`
		return strings.NewReplacer(change...).Replace(body)
	}
	for _, test := range []struct {
		name, body string
		status     int
		duplicate  bool
	}{
		{"first", whole(), 202, false},
		{"again", whole(), 202, true},
		{"another time", whole("10:00", "11:00"), 202, true},
		{"no time", whole(`"time":"2026-11-20T10:00:00Z",`, ""), 202, true},
		{"spaces outside of data", whole(`"e"`, ` "e" `), 202, true},
		{"spaces in data", whole(`{"n":1}`, `{"n": 1}`), 409, false},
		{"type", whole(`"a"`, `"b"`), 409, false},
		{"resource ids", whole(`["1"]`, `["2"]`), 409, false},
		{"object id", whole(`"o"`, `"p"`), 409, false},
		{"changed", whole(`["c"]`, `[]`), 409, false},
		{"targets", whole(`["`+sub.ID.String()+`"]`, `[]`), 409, false},
	} {
		a := h.post("acme", "/v1/events", test.body)
		if a.status != test.status {
			t.Errorf("%s: answered %d %s, want %d", test.name, a.status, a.body, test.status)
		} else if test.status == 409 {
			if !at(a.problem(t), "body.id") {
				t.Errorf("%s: the problem does not name the id: %s", test.name, a.body)
			}
		} else if r := a.result(t); r.ID != "e" || r.Duplicate != test.duplicate {
			t.Errorf("%s: answered %s, want duplicate %v", test.name, a.body, test.duplicate)
		}
	}
	if n := len(h.stored()); n != 1 {
		t.Errorf("%d events are stored, want 1", n)
	}
	// Another tenant's ids are its own.
	if r := h.post("globex", "/v1/events", `{"type":"b","data":1,"id":"e"}`).result(t); r.Duplicate {
		t.Error("another tenant's id was taken for a repeat")
	}
}

// A key in quotes, as structured fields have it, is the key without them.
func TestAKeyInQuotes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const body = `{"type":"a","data":1}`
	if r := h.post("acme", "/v1/events", body, "Idempotency-Key", ` "k1" `).result(t); r.ID != "k1" || r.Duplicate {
		t.Errorf("answered %+v", r)
	}
	if r := h.post("acme", "/v1/events", body, "Idempotency-Key", "k1").result(t); r.ID != "k1" || !r.Duplicate {
		t.Errorf("without quotes: answered %+v", r)
	}
	for _, key := range []string{`"k1`, `""`, `"`, `"k\"1"`, `"k 1"`, `k1"`} {
		a := h.post("acme", "/v1/events", body, "Idempotency-Key", key)
		if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "header.Idempotency-Key") {
			t.Errorf("%s: answered %d %s", key, a.status, a.body)
		}
	}
}

func TestTheHeaderIsTheID(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if r := h.post("acme", "/v1/events", `{"type":"a","data":1}`, "Idempotency-Key", "k1").result(t); r.ID != "k1" || r.Duplicate {
		t.Errorf("answered %+v", r)
	}
	if r := h.post("acme", "/v1/events", `{"type":"a","data":1,"id":"k1"}`, "Idempotency-Key", "k1").result(t); r.ID != "k1" || !r.Duplicate {
		t.Errorf("answered %+v", r)
	}
}

func TestAHundredAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	race := func(body func(i int) string) (fresh, duplicate, conflict int) {
		answers := make([]answer, 100)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() { answers[i] = h.post("acme", "/v1/events", body(i)) })
		}
		wg.Wait()
		for _, a := range answers {
			switch {
			case a.status == http.StatusConflict:
				conflict++
			case a.status != http.StatusAccepted:
				t.Errorf("answered %d %s", a.status, a.body)
			case a.result(t).Duplicate:
				duplicate++
			default:
				fresh++
			}
		}
		return fresh, duplicate, conflict
	}
	if fresh, duplicate, conflict := race(func(int) string { return `{"type":"a","data":1,"id":"same"}` }); fresh != 1 || duplicate != 99 || conflict != 0 {
		t.Errorf("of 100 of the same, %d are new, %d duplicates, %d conflicts", fresh, duplicate, conflict)
	}
	if fresh, duplicate, conflict := race(func(i int) string { return fmt.Sprintf(`{"type":"a","data":%d,"id":"different"}`, i) }); fresh != 1 || duplicate != 0 || conflict != 99 {
		t.Errorf("of 100 different ones, %d are new, %d duplicates, %d conflicts", fresh, duplicate, conflict)
	}
	if n := len(h.stored()); n != 2 {
		t.Errorf("%d events are stored, want 2", n)
	}
}

func TestTheLedgerKnowsWhatTheStreamForgot(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if a := h.post("acme", "/v1/events", `{"type":"a","data":1,"id":"e"}`); a.status != http.StatusAccepted {
		t.Fatalf("answered %d %s", a.status, a.body)
	}
	// The stream is gone, and with it what it remembers of ids; fan-out has recorded the event.
	h.forget()
	e := event.Event{ID: "e", Tenant: "acme", Type: "a", Data: []byte("1"), Time: time.Now(), AcceptedAt: time.Now()}
	e.UID = event.UID(e.Tenant, e.ID, e.AcceptedAt)
	if err := h.ledger.Record(t.Context(), &e, 0, 0); err != nil {
		t.Fatal(err)
	}
	if r := h.post("acme", "/v1/events", `{"type":"a","data":1,"id":"e"}`).result(t); !r.Duplicate {
		t.Error("a repeat of what was fanned out is not a duplicate")
	}
	if n := len(h.stored()); n != 0 {
		t.Errorf("a repeat of what was fanned out was stored %d times", n)
	}
	if a := h.post("acme", "/v1/events", `{"type":"a","data":2,"id":"e"}`); a.status != http.StatusConflict {
		t.Errorf("other content is answered %d", a.status)
	}
}

func TestAnIDWithoutItsEventIsSentAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.post("acme", "/v1/events", `{"type":"a","data":1,"id":"e"}`)
	// The key was made, and then the broker was lost before it had the event.
	h.forget()
	h.age("e", time.Hour)
	if r := h.post("acme", "/v1/events", `{"type":"a","data":1,"id":"e"}`).result(t); r.Duplicate {
		t.Error("an event that was never stored is called a duplicate")
	}
	if n := len(h.stored()); n != 1 {
		t.Errorf("%d events are stored, want 1", n)
	}
	// Its time started anew, so that it does not end before that of the event.
	var age float64
	if err := h.DB.QueryRow("SELECT extract(epoch FROM now() - created_at) FROM event_keys").Scan(&age); err != nil || age > 60 {
		t.Errorf("the key is %v s old (%v)", age, err)
	}
}

func TestAnIDIsFreeAfterADay(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.post("acme", "/v1/events", `{"type":"a","data":1,"id":"e"}`)
	h.forget()
	h.age("e", 24*time.Hour)
	if a := h.post("acme", "/v1/events", `{"type":"a","data":2,"id":"e"}`); a.status != http.StatusConflict {
		t.Errorf("within the day, other content is answered %d %s", a.status, a.body)
	}
	h.age("e", 2*time.Hour)
	if a := h.post("acme", "/v1/events", `{"type":"a","data":2,"id":"e"}`); a.status != http.StatusAccepted || a.result(t).Duplicate {
		t.Errorf("after the day, other content is answered %d %s", a.status, a.body)
	}
	if a := h.post("acme", "/v1/events", `{"type":"a","data":1,"id":"e"}`); a.status != http.StatusConflict {
		t.Errorf("the old content is answered %d %s", a.status, a.body)
	}
}

func TestOldKeysAreRemoved(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, err := h.DB.Exec(`INSERT INTO event_keys (tenant, id, hash, created_at)
		SELECT 'acme', 'e' || n, ''::bytea, now() - interval '49 hours' FROM generate_series(1, 12000) n
		UNION ALL SELECT 'acme', 'y' || n, ''::bytea, now() - interval '47 hours' FROM generate_series(1, 10) n`)
	if err != nil {
		t.Fatal(err)
	}
	stop := h.run()
	h.Eventually("the old keys are gone", func() bool { return h.keyCount() == 10 })
	stop()
}

// forget empties the stream and what it remembers of ids.
func (h *house) forget() {
	h.T.Helper()
	if err := h.JS.DeleteStream(h.T.Context(), fanout.Stream); err != nil {
		h.T.Fatal(err)
	}
	h.apply()
}

// age makes a key older.
func (h *house) age(id string, by time.Duration) {
	h.T.Helper()
	_, err := h.DB.ExecContext(h.T.Context(), "UPDATE event_keys SET created_at = created_at - $2 * interval '1 second' WHERE id = $1", id, by.Seconds())
	if err != nil {
		h.T.Fatal(err)
	}
}
