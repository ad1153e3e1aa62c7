package ingest_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/ingest"
	"github.com/fanfarehq/fanfare/internal/event"
)

func TestOneEvent(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	sub := h.subscribe("acme", "*")
	data := `{ "n":12345678901234567890.10,"b":1 ,
		"a":"\u0041 <&> ` + "\u2028" + `", "z":1e999999, "nul":"\u0000" }`
	a := h.post("acme", "/v1/events", `{"type":"order.created","data":`+data+` ,"id":"evt_17","time":"2026-11-20T11:00:00+01:00",
		"tenant":"acme","resource_ids":["123","größe"],"object_id":"o_17","changed":["status"],"targets":["`+strings.ToUpper(sub.ID.String())+`"]}`)
	if a.status != http.StatusAccepted || a.body != `{"id":"evt_17","duplicate":false}` {
		t.Fatalf("answered %d %s", a.status, a.body)
	}
	all := h.stored()
	if len(all) != 1 {
		t.Fatalf("%d messages are stored, want 1", len(all))
	}
	m := all[0]
	if string(m.Data) != data {
		t.Errorf("the data became\n%s\nwant\n%s", m.Data, data)
	}
	for header, want := range map[string]string{
		"Nats-Msg-Id": "acme.evt_17", event.HeaderTime: "2026-11-20T10:00:00Z",
		event.HeaderResourceIDs: "123,größe", event.HeaderObjectID: "o_17", event.HeaderChanged: "status",
		event.HeaderTargets: sub.ID.String(), event.HeaderMade: "", event.HeaderChecked: "1",
	} {
		if got := m.Header.Get(header); got != want {
			t.Errorf("%s is %q, want %q", header, got, want)
		}
	}
	if m.Subject != "events.acme.order.created" {
		t.Errorf("the subject is %s", m.Subject)
	}
}

func TestOnlyTypeAndDataAreRequired(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.post("acme", "/v1/events", ` {"data":null,"type":"ping","id":null,"time":null,"tenant":null,"resource_ids":null,"object_id":null,"changed":null,"targets":null} `)
	r := a.result(t)
	if _, err := uuid.Parse(r.ID); a.status != http.StatusAccepted || err != nil || r.Duplicate {
		t.Fatalf("answered %d %s", a.status, a.body)
	}
	m := h.stored()[0]
	if string(m.Data) != "null" || m.Header.Get(event.HeaderMade) != "1" || m.Header.Get("Nats-Msg-Id") != "acme."+r.ID {
		t.Errorf("stored %s with %v", m.Data, m.Header)
	}
	if n := h.keyCount(); n != 0 {
		t.Errorf("%d ids are held for an id that was made", n)
	}
}

func TestBadRequestsStoreNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(h *house) { h.cfg.MaxEvents = 10 })
	foreign := h.subscribe("globex", "*")
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	long := strings.Repeat("a", 129)
	for _, test := range []struct {
		name, key, path, body string
		headers               []string
		status                int
		at                    string
	}{
		{name: "no key", key: "", body: `{"type":"a","data":1}`, status: 401},
		{name: "wrong key", key: "nobody", body: `{"type":"a","data":1}`, status: 401},
		{name: "lacking scope", key: "reader", body: `{"type":"a","data":1}`, status: 403},
		{name: "another tenant in the body", body: `{"type":"a","data":1,"tenant":"globex"}`, status: 403},
		{name: "another tenant in the query", path: "/v1/events?tenant=globex", body: `{"type":"a","data":1}`, status: 403},
		{name: "admin without tenant", key: "admin", body: `{"type":"a","data":1}`, status: 422, at: "query.tenant"},
		{name: "admin with two tenants", key: "admin", path: "/v1/events?tenant=acme", body: `{"type":"a","data":1,"tenant":"globex"}`, status: 422, at: "query.tenant"},
		{name: "unknown parameter", path: "/v1/events?tennant=acme", body: `{"type":"a","data":1}`, status: 422, at: "query.tennant"},

		{name: "empty", body: ``, status: 400},
		{name: "blank", body: " \n", status: 400},
		{name: "cut off", body: `{"type":"a","data":{`, status: 400},
		{name: "bad JSON", body: `{"type":"a","data":01}`, status: 400},
		{name: "trailing comma", body: `{"type":"a","data":1,}`, status: 400},
		{name: "two texts", body: `{"type":"a","data":1} {}`, status: 400},
		{name: "byte order mark", body: "\xef\xbb\xbf" + `{"type":"a","data":1}`, status: 400},
		{name: "invalid UTF-8", body: `{"type":"a","data":"` + "\xff" + `"}`, status: 400},
		{name: "lone surrogate", body: `{"type":"a","data":"\ud800"}`, status: 400},
		{name: "NUL byte", body: `{"type":"a","data":"` + "\x00" + `"}`, status: 400},
		{name: "duplicate field", body: `{"type":"a","data":1,"type":"a"}`, status: 400},
		{name: "duplicate field by escape", body: `{"type":"a","data":1,"t\u0079pe":"a"}`, status: 400},
		{name: "duplicate name in data", body: `{"type":"a","data":{"a":1,"a":1}}`, status: 400},
		{name: "array cut off", body: `[{"type":"a","data":1}`, status: 400},
		{name: "bad event in an array", body: `[{"type":"a","data":1},{]`, status: 400},

		{name: "a number", body: `5`, status: 422, at: "body"},
		{name: "null", body: `null`, status: 422, at: "body"},
		{name: "unknown field", body: `{"type":"a","data":1,"foo":1}`, status: 422, at: "body.foo"},
		{name: "field of another case", body: `{"Type":"a","data":1}`, status: 422, at: "body.Type"},
		{name: "no type", body: `{"data":1}`, status: 422, at: "body.type"},
		{name: "no data", body: `{"type":"a"}`, status: 422, at: "body.data"},
		{name: "type is null", body: `{"type":null,"data":1}`, status: 422, at: "body.type"},
		{name: "type is a number", body: `{"type":5,"data":1}`, status: 422, at: "body.type"},
		{name: "type is empty", body: `{"type":"","data":1}`, status: 422, at: "body.type"},
		{name: "type of odd characters", body: `{"type":"order-created","data":1}`, status: 422, at: "body.type"},
		{name: "type of wildcards", body: `{"type":"order.*","data":1}`, status: 422, at: "body.type"},
		{name: "type with an empty token", body: `{"type":"order..created","data":1}`, status: 422, at: "body.type"},
		{name: "type with a dot at its end", body: `{"type":"order.","data":1}`, status: 422, at: "body.type"},
		{name: "long type", body: `{"type":"` + long + `","data":1}`, status: 422, at: "body.type"},
		{name: "id is empty", body: `{"type":"a","data":1,"id":""}`, status: 422, at: "body.id"},
		{name: "id with a dot", body: `{"type":"a","data":1,"id":"a.b"}`, status: 422, at: "body.id"},
		{name: "id with a space", body: `{"type":"a","data":1,"id":"a b"}`, status: 422, at: "body.id"},
		{name: "id with a line break", body: `{"type":"a","data":1,"id":"a\nb"}`, status: 422, at: "body.id"},
		{name: "id of 64 KiB", body: `{"type":"a","data":1,"id":"` + strings.Repeat("a", 64<<10) + `"}`, status: 422, at: "body.id"},
		{name: "id of an object", body: `{"type":"a","data":1,"id":{}}`, status: 422, at: "body.id"},
		{name: "tenant of odd characters", key: "admin", body: `{"type":"a","data":1,"tenant":"a.b"}`, status: 422, at: "body.tenant"},
		{name: "time without a zone", body: `{"type":"a","data":1,"time":"2026-11-20T10:00:00"}`, status: 422, at: "body.time"},
		{name: "time of a number", body: `{"type":"a","data":1,"time":1700000000}`, status: 422, at: "body.time"},
		{name: "time with a comma", body: `{"type":"a","data":1,"time":"2026-11-20T10:00:00,5Z"}`, status: 422, at: "body.time"},
		{name: "time with a short hour", body: `{"type":"a","data":1,"time":"2026-11-20T1:00:00Z"}`, status: 422, at: "body.time"},
		{name: "time with an odd zone", body: `{"type":"a","data":1,"time":"2026-11-20T10:00:00+25:00"}`, status: 422, at: "body.time"},
		{name: "time of year 0", body: `{"type":"a","data":1,"time":"0000-11-20T10:00:00Z"}`, status: 422, at: "body.time"},
		{name: "resource ids of a string", body: `{"type":"a","data":1,"resource_ids":"a"}`, status: 422, at: "body.resource_ids"},
		{name: "resource id of a number", body: `{"type":"a","data":1,"resource_ids":["a",1]}`, status: 422, at: "body.resource_ids[1]"},
		{name: "resource id with a comma", body: `{"type":"a","data":1,"resource_ids":["a,b"]}`, status: 422, at: "body.resource_ids[0]"},
		{name: "empty resource id", body: `{"type":"a","data":1,"resource_ids":[""]}`, status: 422, at: "body.resource_ids[0]"},
		{name: "many resource ids", body: `{"type":"a","data":1,"resource_ids":["a"` + strings.Repeat(`,"a"`, 100) + `]}`, status: 422, at: "body.resource_ids"},
		{name: "changed with a line break", body: `{"type":"a","data":1,"changed":["a\r\nFanfare-Test: 1"]}`, status: 422, at: "body.changed[0]"},
		{name: "long object id", body: `{"type":"a","data":1,"object_id":"` + strings.Repeat("a", 257) + `"}`, status: 422, at: "body.object_id"},
		{name: "target that is no id", body: `{"type":"a","data":1,"targets":["x"]}`, status: 422, at: "body.targets"},
		{name: "target of another tenant", body: `{"type":"a","data":1,"targets":["` + foreign.ID.String() + `"]}`, status: 422, at: "body.targets[0]"},
		{name: "target that does not exist", body: `{"type":"a","data":1,"targets":["` + uuid.NewString() + `"]}`, status: 422, at: "body.targets[0]"},
		{name: "data of 65 levels", body: `{"type":"a","data":` + deep(65) + `}`, status: 422, at: "body.data"},
		{name: "data of a million levels", body: `{"type":"a","data":` + deep(1_000_000) + `}`, status: 422, at: "body.data"},
		{name: "data of a million levels in an array", body: `[{"type":"a","data":` + deep(1_000_000) + `}]`, status: 422, at: "body[0].data"},
		{name: "another field of a million levels", body: `{"type":"a","data":1,"id":` + deep(1_000_000) + `}`, status: 400},
		{name: "a million levels", body: deep(1_000_000), status: 400},
		{name: "large data", body: `{"type":"a","data":"` + strings.Repeat("a", 256<<10) + `"}`, status: 413, at: "body.data"},
		{name: "large request", body: `{"type":"a","data":"` + strings.Repeat("a", 4<<20) + `"}`, status: 413},
		{name: "many events", body: `[` + strings.Repeat(`{"type":"a","data":1},`, 10) + `{"type":"a","data":1}]`, status: 413},

		{name: "key header that is no id", body: `{"type":"a","data":1}`, headers: []string{"Idempotency-Key", "a b"}, status: 422, at: "header.Idempotency-Key"},
		{name: "key header of 10 kB", body: `{"type":"a","data":1}`, headers: []string{"Idempotency-Key", strings.Repeat("a", 10_000)}, status: 422, at: "header.Idempotency-Key"},
		{name: "key header beside another id", body: `{"type":"a","data":1,"id":"b"}`, headers: []string{"Idempotency-Key", "a"}, status: 422, at: "header.Idempotency-Key"},
		{name: "key header with an array", body: `[{"type":"a","data":1}]`, headers: []string{"Idempotency-Key", "a"}, status: 422, at: "header.Idempotency-Key"},
		{name: "form", body: `type=a`, headers: []string{"Content-Type", "application/x-www-form-urlencoded"}, status: 415},
		{name: "no media type at all", body: `{}`, headers: []string{"Content-Type", "???"}, status: 415},
		{name: "compressed", body: `{}`, headers: []string{"Content-Encoding", "gzip"}, status: 415},
	} {
		t.Run(test.name, func(t *testing.T) {
			key, path := test.key, test.path
			if key == "" && test.status != 401 {
				key = "acme"
			}
			if path == "" {
				path = "/v1/events"
			}
			a := h.post(key, path, test.body, test.headers...)
			if a.status != test.status {
				t.Fatalf("answered %d %.500s, want %d", a.status, a.body, test.status)
			}
			if p := a.problem(t); p.Status != test.status || test.at != "" && !at(p, test.at) {
				t.Errorf("the problem is %.500s, want %d at %s", a.body, test.status, test.at)
			}
		})
	}
	encoded := h.post("acme", "/v1/events", `{}`, "Content-Encoding", "br")
	if got := encoded.header.Get("Accept-Encoding"); encoded.status != 415 || got != "identity" {
		t.Errorf("an encoded body: answered %d with Accept-Encoding %q, want 415 with identity", encoded.status, got)
	}
	if n := len(h.stored()); n != 0 {
		t.Errorf("%d events were stored", n)
	}
	if n := h.keyCount(); n != 0 {
		t.Errorf("%d ids were held", n)
	}
}

func TestTheBoundsThemselvesPass(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	deep := strings.Repeat("[", 64) + strings.Repeat("]", 64)
	attributes := `["` + strings.Repeat("a", 256) + `"` + strings.Repeat(`,"`+strings.Repeat("b", 256)+`"`, 99) + `]`
	for name, body := range map[string]string{
		"64 levels":  `{"type":"a","data":` + deep + `}`,
		"256 KiB":    `{"type":"a","data":"` + strings.Repeat("a", 256<<10-2) + `"}`,
		"type":       `{"type":"` + strings.Repeat("a.", 63) + `aa","data":1}`,
		"id":         `{"type":"a","data":1,"id":"` + strings.Repeat("-", 128) + `"}`,
		"attributes": `{"type":"a","data":1,"resource_ids":` + attributes + `,"changed":` + attributes + `}`,
		"time":       `{"type":"a","data":1,"time":"9999-12-31T23:59:59.999999999Z"}`,
	} {
		if a := h.post("acme", "/v1/events", body); a.status != http.StatusAccepted {
			t.Errorf("%s: answered %d %.300s", name, a.status, a.body)
		}
	}
}

func TestArrayEachOnItsOwnMerit(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.post("acme", "/v1/events", `[
		{"type":"a","data":{"n":1},"id":"e1"},
		{"type":"a","data":1,"foo":1,"bar":2},
		5,
		{"type":"a","data":1,"tenant":"globex"},
		{"type":"a","data":{"n":1},"id":"e1","time":"2026-11-20T10:00:00Z"},
		{"type":"a","data":{"n":2},"id":"e1"},
		{"type":"a","data":"`+strings.Repeat("a", 256<<10)+`","id":"e2"},
		{"type":"b","data":2}]`)
	if a.status != http.StatusAccepted {
		t.Fatalf("answered %d %.500s", a.status, a.body)
	}
	accepted, events := a.results(t)
	if accepted != 3 || len(events) != 8 {
		t.Fatalf("accepted %d of %d: %s", accepted, len(events), a.body)
	}
	if events[0].ID != "e1" || events[0].Duplicate || events[4].ID != "e1" || !events[4].Duplicate || events[7].ID == "" {
		t.Errorf("the good ones are %+v, %+v, %+v", events[0], events[4], events[7])
	}
	for i, want := range map[int]struct {
		status int
		at     []string
	}{
		1: {422, []string{"body[1].foo", "body[1].bar"}}, 2: {422, []string{"body[2]"}}, 3: {403, nil},
		5: {409, []string{"body[5].id"}}, 6: {413, []string{"body[6].data"}},
	} {
		p := problemIn(t, events[i].Error)
		for _, location := range want.at {
			if !at(p, location) {
				t.Errorf("event %d does not name %s: %s", i, location, events[i].Error)
			}
		}
		if p.Status != want.status || events[i].ID != "" {
			t.Errorf("event %d: %s, want %d", i, events[i].Error, want.status)
		}
	}
	if n := len(h.stored()); n != 2 {
		t.Errorf("%d events are stored, want 2", n)
	}
	if a := h.post("acme", "/v1/events", `[{"type":"a","foo":1},1]`); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `"accepted":0,"events":[{"error":`) {
		t.Errorf("an array in which all fail is answered %d %s", a.status, a.body)
	}
	if a := h.post("acme", "/v1/events", `[]`); a.status != http.StatusAccepted || a.body != `{"accepted":0,"events":[]}` {
		t.Errorf("an empty array is answered %d %s", a.status, a.body)
	}
}

func TestArraysAreStoredInTheirOrder(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var body strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&body, `,{"type":"a","data":%d}`, i)
	}
	if a := h.post("acme", "/v1/events", "["+body.String()[1:]+"]"); a.status != http.StatusAccepted || !strings.HasPrefix(a.body, `{"accepted":1000,`) {
		t.Fatalf("answered %d %.200s", a.status, a.body)
	}
	for i, m := range h.stored() {
		if string(m.Data) != fmt.Sprint(i) {
			t.Fatalf("event %d holds %s", i, m.Data)
		}
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(h *house) { h.cfg.MaxEvents = 5 })
	body := `{"type":"a","data":1}` + "\r\n\n" + `{"type":"a","data":` + "\n" + `[{"type":"a","data":1}]` + "\n" + `{"type":"a","data":{"x":1,"x":2}}` + "\n  \n" + `{"type":"a","data": 2 }`
	a := h.post("acme", "/v1/events", body, "Content-Type", "application/x-ndjson; charset=utf-8")
	if a.status != http.StatusAccepted {
		t.Fatalf("answered %d %s", a.status, a.body)
	}
	accepted, events := a.results(t)
	if accepted != 2 || len(events) != 5 {
		t.Fatalf("accepted %d of %d: %s", accepted, len(events), a.body)
	}
	for i, want := range map[int]int{1: 400, 2: 422, 3: 400} {
		if p := problemIn(t, events[i].Error); p.Status != want || !at(p, fmt.Sprintf("body[%d]", i)) {
			t.Errorf("line %d: %s, want %d", i, events[i].Error, want)
		}
	}
	if all := h.stored(); len(all) != 2 || string(all[1].Data) != "2" {
		t.Errorf("%d events are stored", len(all))
	}
	if a := h.post("acme", "/v1/events", strings.Repeat("1\n", 6), "Content-Type", "application/x-ndjson"); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("six lines of five are answered %d", a.status)
	}
}

// Around a line there may be the blanks that JSON knows, and no others.
func TestLinesTakeTheBlanksOfJSONAlone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var body strings.Builder
	blanks := []string{" ", "\t", "\r", "\f", "\v", "\u0085", "\u00a0", "\u2003", "\u3000", "\ufeff"}
	const known = 3
	for _, blank := range blanks {
		body.WriteString(blank + `{"type":"a","data":1}` + blank + "\n")
	}
	body.WriteString(" \t\r\n\v\n") // The first of these lines is empty, the second is not.
	a := h.post("acme", "/v1/events", body.String(), "Content-Type", "application/x-ndjson")
	if a.status != http.StatusAccepted {
		t.Fatalf("answered %d %s", a.status, a.body)
	}
	accepted, events := a.results(t)
	if accepted != known || len(events) != len(blanks)+1 {
		t.Fatalf("accepted %d of %d lines: %s", accepted, len(events), a.body)
	}
	for i := known; i < len(events); i++ {
		if p := problemIn(t, events[i].Error); p.Status != http.StatusBadRequest {
			t.Errorf("line %d: %s, want 400", i, events[i].Error)
		}
	}
}

func TestAdminPublishesForAnyTenant(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if a := h.post("admin", "/v1/events?tenant=acme", `{"type":"a","data":1}`); a.status != http.StatusAccepted {
		t.Errorf("answered %d %s", a.status, a.body)
	}
	if a := h.post("admin", "/v1/events", `[{"type":"a","data":1,"tenant":"acme"},{"type":"a","data":1,"tenant":"globex"},{"type":"a","data":1}]`); a.status != http.StatusAccepted {
		t.Errorf("answered %d %s", a.status, a.body)
	} else if accepted, _ := a.results(t); accepted != 2 {
		t.Errorf("accepted %d: %s", accepted, a.body)
	}
	if n := len(h.stored()); n != 3 {
		t.Errorf("%d events are stored, want 3", n)
	}
}

func TestChunkedBodies(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	unsized := func(body string) io.Reader { return io.MultiReader(strings.NewReader(body)) }
	if a := h.send("acme", "/v1/events", unsized(`{"type":"a","data":1}`)); a.status != http.StatusAccepted {
		t.Errorf("answered %d %s", a.status, a.body)
	}
	large := io.MultiReader(strings.NewReader(`{"type":"a","data":"`), io.LimitReader(forever('a'), 5<<20), strings.NewReader(`"}`))
	if a := h.send("acme", "/v1/events", large); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("5 MiB without a length are answered %d %s", a.status, a.body)
	}
	if n := len(h.stored()); n != 1 {
		t.Errorf("%d events are stored, want 1", n)
	}
}

// forever is a byte, for ever.
type forever byte

func (f forever) Read(p []byte) (int, error) {
	copy(p, bytes.Repeat([]byte{byte(f)}, len(p)))
	return len(p), nil
}

func TestEventTypesAreEnforced(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(h *house) { h.events.EventTypes = fanout.Strict })
	h.declare("acme", "order", `{"type":"object","required":["total"],"properties":{"total":{"type":"number"}}}`, false)
	h.declare("acme", "old", "", true)
	h.declare("acme", "costly", `{"anyOf":[{"properties":{"a":{"$ref":"#"}},"not":{"required":["b"]}},{"required":["a"],"properties":{"a":{"$ref":"#"}}}]}`, false)
	h.declare("", "shared", "", false)
	for _, test := range []struct {
		body   string
		status int
		at     string
	}{
		{`{"type":"order","data":{"total":1}}`, 202, ""},
		{`{"type":"shared","data":1}`, 202, ""},
		{`{"type":"order","data":{"total":"1"}}`, 422, "body.data.total"},
		{`{"type":"order","data":{}}`, 422, "body.data.total"},
		{`{"type":"costly","data":{"a":{"a":{"a":{}}}}}`, 202, ""},
		{`{"type":"costly","data":` + strings.Repeat(`{"a":`, 60) + `{"b":1}` + strings.Repeat("}", 60) + `}`, 422, "body.data"},
		{`{"type":"old","data":1}`, 422, "body.type"},
		{`{"type":"unknown","data":1}`, 422, "body.type"},
	} {
		a := h.post("acme", "/v1/events", test.body)
		if a.status != test.status {
			t.Errorf("%s: answered %d %s, want %d", test.body, a.status, a.body, test.status)
		} else if test.at != "" && !at(a.problem(t), test.at) {
			t.Errorf("%s: %s, want %s", test.body, a.body, test.at)
		}
	}
	// What is declared is known to the next request.
	h.declare("acme", "unknown", "", false)
	if a := h.post("acme", "/v1/events", `{"type":"unknown","data":1}`); a.status != http.StatusAccepted {
		t.Errorf("a type that was just declared is answered %d %s", a.status, a.body)
	}
}

// declare declares an event type.
func (h *house) declare(tenant, name, schema string, archived bool) {
	h.T.Helper()
	var text any
	if schema != "" {
		text = schema
	}
	_, err := h.DB.ExecContext(h.T.Context(), `WITH r AS (UPDATE revision SET value = value + 1 RETURNING value)
		INSERT INTO event_types (tenant, name, schema, archived, revision) SELECT $1, $2, $3::jsonb, $4, value FROM r`,
		tenant, name, text, archived)
	if err != nil {
		h.T.Fatal(err)
	}
}

func TestConfigNamesTheVariable(t *testing.T) {
	t.Parallel()
	if err := ingest.DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	for variable, change := range map[string]func(*ingest.Config){
		"FANFARE_INGEST_MAX_EVENTS":  func(c *ingest.Config) { c.MaxEvents = 0 },
		"FANFARE_INGEST_MAX_BYTES":   func(c *ingest.Config) { c.MaxBytes = 0 },
		"FANFARE_INGEST_MEMORY":      func(c *ingest.Config) { c.Memory = 1 << 20 },
		"FANFARE_INGEST_MAX_WAITING": func(c *ingest.Config) { c.MaxWaiting = -1 },
		"FANFARE_INGEST_TIMEOUT":     func(c *ingest.Config) { c.Timeout = 0 },
	} {
		cfg := ingest.DefaultConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), variable) {
			t.Errorf("Validate says %v, want it to name %s", err, variable)
		}
	}
}
