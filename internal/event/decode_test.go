package event_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/event"
)

var update = flag.Bool("update", false, "write the golden files anew")

var accepted = time.Date(2026, 11, 20, 10, 0, 0, 123456789, time.UTC)

// golden are events of the wire as this version writes them. What is in the stream outlives a deployment, so
// these files change only together with a decoder that still reads the old ones.
var golden = map[string]event.Event{
	"least": {ID: "0198c9d2-e7b3-7c1f-9a55-0d2f3c4b5a69", Tenant: "acme", Type: "ping", Time: accepted, Data: []byte("null"), Made: true, Checked: true},
	"whole": {
		ID: "evt_17", Tenant: "acme", Type: "order.created", Time: accepted, Data: []byte(`{ "total": 12.50 }`),
		ResourceIDs: []string{"123", "größe 4"}, ObjectID: "o_17", Changed: []string{"status", "total"},
		Targets: []uuid.UUID{uuid.MustParse("0198c9d2-e7b3-7c1f-9a55-0d2f3c4b5a69")}, Checked: true,
		TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	},
	"misfit": {ID: "evt_18", Tenant: "acme", Type: "order.created", Time: accepted, Data: []byte(`{}`), Checked: true, Fit: event.Misfits},
	"test": {ID: "0198c9d2-e7b3-7c1f-9a55-0d2f3c4b5a70", Tenant: "acme", Type: "fanfare.test", Time: accepted, Data: []byte(`[]`), Made: true, Checked: true, Test: true,
		Targets: []uuid.UUID{uuid.MustParse("0198c9d2-e7b3-7c1f-9a55-0d2f3c4b5a69")}},
}

// wire is a message of the stream with one value of each header.
type wire struct {
	Subject string
	Seq     uint64
	At      time.Time
	MsgID   string
	Headers map[string]string
	Data    []byte
}

func decodeWire(w wire) (*event.Event, *event.Refusal) {
	return event.Decode(event.Wire{Subject: w.Subject, Seq: w.Seq, At: w.At, MsgID: w.MsgID, Headers: maps.All(w.Headers), Data: w.Data})
}

func TestTheWireIsAsItWas(t *testing.T) {
	t.Parallel()
	for name, e := range golden {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join("testdata", "event_"+name+".txt")
			subject, msg := e.Subject(), e.Encode()
			var b bytes.Buffer
			fmt.Fprintf(&b, "%s\nNats-Msg-Id: %s\n", subject, msg.UUID)
			for _, header := range slices.Sorted(maps.Keys(msg.Metadata)) {
				fmt.Fprintf(&b, "%s: %s\n", header, msg.Metadata[header])
			}
			fmt.Fprintf(&b, "\n%s", msg.Payload)
			if *update {
				if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(want, b.Bytes()) {
				t.Errorf("the wire is\n%s\nwant\n%s", b.Bytes(), want)
			}
			// The id had a header of its own once, which others still may send.
			old, err := os.ReadFile(filepath.Join("testdata", "old_"+name+".txt"))
			if err != nil {
				t.Fatal(err)
			}
			e.Seq, e.AcceptedAt, e.UID = 17, accepted, event.UID(e.Tenant, e.ID, accepted)
			for _, text := range [][]byte{want, old} {
				got, refusal := decodeWire(parseGolden(t, text))
				if refusal != nil {
					t.Fatal(refusal)
				}
				if !reflect.DeepEqual(*got, e) {
					t.Errorf("decoded %+v\nwant %+v", *got, e)
				}
			}
		})
	}
}

func parseGolden(t *testing.T, text []byte) wire {
	t.Helper()
	head, body, ok := bytes.Cut(text, []byte("\n\n"))
	if !ok {
		t.Fatal("the golden file has no body")
	}
	lines := strings.Split(string(head), "\n")
	w := wire{Subject: lines[0], Seq: 17, At: accepted, Headers: map[string]string{}, Data: body}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		w.Headers[name] = value
	}
	return w
}

func TestHeadersOfOthers(t *testing.T) {
	t.Parallel()
	target := uuid.MustParse("0198c9d2-e7b3-7c1f-9a55-0d2f3c4b5a69")
	for _, test := range []struct {
		name    string
		subject string
		msgID   string
		headers map[string]string
		want    event.Event
	}{
		{
			name: "none", subject: "events.acme.order.created",
			want: event.Event{ID: "01a1f866-0d7b-72bb-ab7f-c7cc2deb6137", Made: true},
		},
		{
			name: "message id", subject: "events.acme.order.created", msgID: "acme.evt_1",
			want: event.Event{ID: "evt_1"},
		},
		{
			name: "message id of another form", subject: "events.acme.order.created", msgID: "other.evt_1",
			want: event.Event{ID: "01a1f866-0d7b-72bb-ab7f-c7cc2deb6137", Made: true},
		},
		{
			name: "message id that is no event id", subject: "events.acme.order.created", msgID: "acme.e.1",
			want: event.Event{ID: "01a1f866-0d7b-72bb-ab7f-c7cc2deb6137", Made: true},
		},
		{
			name: "own before CloudEvents before message id", subject: "events.acme.order.created", msgID: "acme.evt_3",
			headers: map[string]string{"Fanfare-Id": "evt_1", "ce-id": "evt_2"},
			want:    event.Event{ID: "evt_1"},
		},
		{
			name: "CloudEvents", subject: "events.acme.order.created",
			headers: map[string]string{
				"ce-specversion": "1.0", "ce-id": "evt_2", "ce-type": "order.created", "ce-source": "/shop",
				"ce-time": "2026-11-19T08:00:00+01:00", "ce-subject": "o%2017", "ce-tenant": "acme", "ce-resourceids": "1, 2,,",
				"ce-changed": "status", "ce-targets": target.String(), "ce-comexample": `"passed%20on"`,
				"content-type": "application/json; charset=utf-8",
				"traceparent":  "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
			},
			want: event.Event{
				ID: event.CloudID("/shop", "evt_2"), ContentType: "application/json; charset=utf-8",
				Cloud: &event.Cloud{ID: "evt_2", Source: "/shop", Subject: "o 17", Extensions: []event.Extension{
					{Name: "changed", Value: "status"}, {Name: "comexample", Value: "passed on"}, {Name: "resourceids", Value: "1, 2,,"},
				}},
				Time: time.Date(2026, 11, 19, 7, 0, 0, 0, time.UTC), ObjectID: "o 17", ResourceIDs: []string{"1", "2"},
				Changed: []string{"status"}, Targets: []uuid.UUID{target},
				TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
			},
		},
		{
			name: "any case", subject: "events.acme.order.created",
			headers: map[string]string{"fanfare-id": "evt_1", "FANFARE-CHANGED": "a", "Ce-Subject": "o_1", "Traceparent": "nonsense"},
			want:    event.Event{ID: "evt_1", Changed: []string{"a"}, ObjectID: "o_1"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, refusal := decodeWire(wire{
				Subject: test.subject, Seq: 17, At: accepted, MsgID: test.msgID, Headers: test.headers, Data: []byte(`{}`),
			})
			if refusal != nil {
				t.Fatal(refusal)
			}
			want := test.want
			want.Tenant, want.Type, want.Data, want.Seq, want.AcceptedAt = "acme", "order.created", []byte(`{}`), 17, accepted
			want.UID = event.UID(want.Tenant, want.ID, accepted)
			if want.Time.IsZero() {
				want.Time = accepted
			}
			if !reflect.DeepEqual(*got, want) {
				t.Errorf("got  %+v\nwant %+v", *got, want)
			}
		})
	}
}

func TestWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		subject string
		headers map[string]string
		reason  event.Reason
		at      string
	}{
		{"no type", "events.acme", nil, event.BadSubject, "subject"},
		{"another stream's subject", "tasks.acme.order", nil, event.BadSubject, "subject"},
		{"tenant of odd characters", "events.a%c.order", nil, event.BadSubject, "tenant"},
		{"type of odd characters", "events.acme.order-created", nil, event.BadSubject, "type"},
		{"long type", "events.acme." + strings.Repeat("a", 129), nil, event.BadSubject, "type"},
		{"id with a dot", "events.acme.order", map[string]string{"Fanfare-Id": "a.b"}, event.BadID, "id"},
		{"id with a space", "events.acme.order", map[string]string{"ce-id": "a b"}, event.BadID, "id"},
		{"id of 64 KiB", "events.acme.order", map[string]string{"Fanfare-Id": strings.Repeat("a", 64<<10)}, event.BadID, "id"},
		{"no time", "events.acme.order", map[string]string{"Fanfare-Time": "yesterday"}, event.BadTime, "time"},
		{"time before the calendar", "events.acme.order", map[string]string{"ce-time": "0001-01-01T00:00:00+14:00"}, event.BadTime, "time"},
		{"long resource id", "events.acme.order", map[string]string{"Fanfare-Resource-Ids": "a," + strings.Repeat("b", 257)}, event.BadAttribute, "resource_ids[1]"},
		{"many changed", "events.acme.order", map[string]string{"Fanfare-Changed": strings.Repeat("a,", 101)}, event.BadAttribute, "changed"},
		{"object id with a comma", "events.acme.order", map[string]string{"Fanfare-Object-Id": "a,b"}, event.BadAttribute, "object_id"},
		{"object id that is no UTF-8", "events.acme.order", map[string]string{"Fanfare-Object-Id": "a\xff"}, event.BadAttribute, "object_id"},
		{"object id with a line break", "events.acme.order", map[string]string{"ce-subject": "a%0Ab"}, event.BadAttribute, "subject"},
		{"target that is no id", "events.acme.order", map[string]string{"Fanfare-Targets": "1"}, event.BadTarget, "targets"},
		{"many targets", "events.acme.order", map[string]string{"Fanfare-Targets": strings.Repeat(uuid.Nil.String()+",", 101)}, event.BadTarget, "targets"},
		{"another type", "events.acme.order", map[string]string{"ce-type": "invoice"}, event.BadSubject, "ce-type"},
		{"another tenant", "events.acme.order", map[string]string{"ce-tenant": "other"}, event.BadSubject, "ce-tenant"},
		{"another version", "events.acme.order", map[string]string{"ce-specversion": "0.3"}, event.BadMode, "specversion"},
		{"structured", "events.acme.order", map[string]string{"Content-Type": "application/cloudevents+json"}, event.BadMode, "Content-Type"},
		{"not JSON", "events.acme.order", map[string]string{"Content-Type": "text/xml"}, event.BadMode, "Content-Type"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, refusal := decodeWire(wire{Subject: test.subject, Seq: 1, At: accepted, Headers: test.headers, Data: []byte(`{}`)})
			if refusal == nil {
				t.Fatal("it was taken for an event")
			}
			if refusal.Reason != test.reason || refusal.Faults[0].Location != test.at {
				t.Errorf("refused for %s at %s, want %s at %s", refusal.Reason, refusal.Faults[0].Location, test.reason, test.at)
			}
		})
	}
}

func TestNesting(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]int{
		`{"a":"\\\"[","b\\\\":[]}`: 2, `{"a":"\\\\\"[[[[","b":[1]}`: 2, `"\"`: 0,
		`1`: 0, `"[[["`: 0, `{}`: 1, `[[],[[]]]`: 3, `{"a":"\"[[[","b":[1]}`: 2, `"a\\",[[[`: 0, `5,"x":[[[`: 0, `  {"a":{}} [[[[`: 2,
		strings.Repeat("[", 64) + strings.Repeat("]", 64): 64,
		strings.Repeat("[", 1<<20):                        65,
		`{"a":` + strings.Repeat(`{"a":`, 63) + `1`:       64,
		``: 0, `"`: 0, `"\`: 0, `]`: 0,
	} {
		if got := event.Nesting([]byte(data)); got != want {
			t.Errorf("Nesting(%.40s) = %d, want %d", data, got, want)
		}
	}
}

// The ledger keeps both for weeks, so a repeat must be known by them after any upgrade.
func TestHashAndUIDAreAsTheyWere(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][2]string{
		"least": {"d05124ac55d3e82cf582761f6510bde72b19552e16d201fa39dfcdfb8752cee7", "01a1f866-0d7b-70a0-ad89-895d88809133"},
		"whole": {"986d5af17fecd8171e994f195119974ed7d9e8e61247680a4cfd1f6743655599", "01a1f866-0d7b-7262-a632-9daa9f62620f"},
		"test":  {"1069ca81c6fc095fd58a5324c5b5e88b858f1ae5a3dc81879bf981c574afbee6", "01a1f866-0d7b-7878-8ba5-11d97e81eb6a"},
	} {
		e := golden[name]
		if got := fmt.Sprintf("%x", e.Hash()); got != want[0] {
			t.Errorf("the hash of %q is %s, want %s", name, got, want[0])
		}
		if got := event.UID(e.Tenant, e.ID, accepted).String(); got != want[1] {
			t.Errorf("the UID of %q is %s, want %s", name, got, want[1])
		}
	}
}

func TestHashIsThatOfTheContent(t *testing.T) {
	t.Parallel()
	base := golden["whole"]
	same := base
	same.Time, same.TraceParent, same.Seq, same.AcceptedAt, same.ID, same.Tenant = time.Time{}, "", 5, accepted, "other", "other"
	if base.Hash() != same.Hash() {
		t.Error("the hash depends on what is not content")
	}
	for name, change := range map[string]func(*event.Event){
		"type":         func(e *event.Event) { e.Type = "order.creates" },
		"data":         func(e *event.Event) { e.Data = []byte(`{"total":12.50}`) },
		"resource ids": func(e *event.Event) { e.ResourceIDs = []string{"123größe 4"} },
		"moved item": func(e *event.Event) {
			e.ResourceIDs, e.Changed = e.ResourceIDs[:1], []string{"größe 4", "status", "total"}
		},
		"object id": func(e *event.Event) { e.ObjectID = "" },
		"targets":   func(e *event.Event) { e.Targets = nil },
	} {
		other := base
		change(&other)
		if base.Hash() == other.Hash() {
			t.Errorf("the hash does not depend on %s", name)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("events.acme.order.created", "acme.evt_1", "Fanfare-Changed", "a,b", []byte(`{}`))
	f.Add("events.acme.order", "", "ce-time", "2026-11-20T10:00:00Z", []byte(`[1e999999]`))
	f.Add("events..", "x", "ce-subject", "%zz", []byte("\xff"))
	f.Fuzz(func(t *testing.T, subject, msgID, name, value string, data []byte) {
		e, refusal := decodeWire(wire{
			Subject: subject, Seq: 1, At: accepted, MsgID: msgID, Headers: map[string]string{name: value}, Data: data,
		})
		if refusal != nil {
			if refusal.Reason == "" || len(refusal.Faults) == 0 || refusal.Error() == "" {
				t.Errorf("a refusal without a reason: %+v", refusal)
			}
			return
		}
		// What is decoded can be encoded, and comes back as it was.
		again, msg := e.Subject(), e.Encode()
		if again != subject {
			t.Errorf("subject %q became %q", subject, again)
		}
		back, refusal := decodeWire(wire{Subject: again, Seq: 1, At: accepted, MsgID: msg.UUID, Headers: msg.Metadata, Data: msg.Payload})
		if refusal != nil {
			t.Fatalf("%q: %v", msg.Metadata, refusal)
		}
		if !reflect.DeepEqual(e, back) {
			t.Errorf("%+v became %+v", e, back)
		}
	})
}
