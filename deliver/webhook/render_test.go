package webhook_test

import (
	"bytes"
	"encoding/json"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/event"
)

// oddData is JSON that any decoding and encoding again would change.
const oddData = "{ \"b\":1.0, \"a\":1e400, \"big\":12345678901234567890123, \"a\":\"\\u00e9<&>\\/\",\n\"z\":[ ] }"

func testEvent() *event.Event {
	return &event.Event{
		ID: "evt_17", Tenant: "acme", Type: "order.created", ObjectID: "o_17",
		Time: time.Date(2026, 11, 20, 11, 0, 0, 120_000_000, time.FixedZone("CET", 3600)),
		Data: []byte(oddData),
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	tests := []struct{ format, contentType, want string }{
		{"standard", "application/json",
			`{"type":"order.created","timestamp":"2026-11-20T10:00:00.12Z","data":` + oddData + `}`},
		{"cloudevents", "application/cloudevents+json",
			`{"specversion":"1.0","id":"evt_17","source":"/tenants/acme","type":"order.created","subject":"o_17",` +
				`"time":"2026-11-20T10:00:00.12Z","datacontenttype":"application/json","data":` + oddData + `}`},
		{"raw", "application/json", oddData},
	}
	for i, format := range webhook.Formats() {
		test := tests[i]
		if format.Name != test.format || format.ContentType != test.contentType {
			t.Errorf("got format %s of %s, want %s of %s", format.Name, format.ContentType, test.format, test.contentType)
		}
		for range 2 { // the same in every attempt
			got, err := format.Body(testEvent())
			if err != nil || string(got) != test.want {
				t.Errorf("%s: got %s, %v\nwant %s", format.Name, got, err, test.want)
			}
		}
		if _, err := format.Body(&event.Event{ID: "e"}); err == nil || err.Error() != "the event has no data" {
			t.Errorf("%s: no data: got %v", format.Name, err)
		}
	}
}

func TestBodiesOfScalars(t *testing.T) {
	t.Parallel()
	for _, data := range []string{`null`, `1`, `"x"`, `[]`} {
		e := testEvent()
		e.Data = []byte(data)
		for _, format := range webhook.Formats() {
			got, err := format.Body(e)
			if err != nil || !json.Valid(got) {
				t.Errorf("%s of %s: %s, %v", format.Name, data, got, err)
			}
		}
	}
}

// The official SDK reads what we write, and finds it valid.
func TestCloudEventIsValid(t *testing.T) {
	t.Parallel()
	e := testEvent()
	e.Data = []byte(`{"total":12.50}`)
	for _, objectID := range []string{"o_17", "", "quo\"te\n"} {
		e.ObjectID = objectID
		got, err := formatOf("cloudevents").Body(e)
		if err != nil {
			t.Fatal(err)
		}
		var read cloudevents.Event
		if err := json.Unmarshal(got, &read); err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		if err := read.Validate(); err != nil {
			t.Errorf("%s: %v", got, err)
		}
		if read.ID() != e.ID || read.Type() != e.Type || read.Subject() != objectID || !read.Time().Equal(e.Time) {
			t.Errorf("read back: %v", read)
		}
		if !bytes.Equal(read.Data(), e.Data) {
			t.Errorf("data: got %s, want %s", read.Data(), e.Data)
		}
	}
}

// However many attempts share an event's Bodies, it is rendered once in each format, and without Bodies to the same bytes.
func TestBodiesRenderOnce(t *testing.T) {
	t.Parallel()
	var rendered atomic.Int32
	counted := standard()
	counted.Name = "counted"
	counted.Body = func(e *event.Event) ([]byte, error) {
		rendered.Add(1)
		return standard().Body(e)
	}
	got := make(chan arrived, 1+16*2+1)
	rec := newRawReceiver(t, "127.0.0.1:0", nil, recorded(ok200, got))
	poster := posterOf(t, testClient(t, ""), counted)
	send := func(format string, bodies *webhook.Bodies) {
		a := testAttempt("http://" + rec.addr)
		a.Subscription.PayloadFormat, a.Bodies = format, bodies
		if r := poster.Send(t.Context(), a); r.Reason != outcome.ReasonOK {
			t.Errorf("%s: %+v", format, r)
		}
	}
	var bodies webhook.Bodies
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			send("counted", &bodies)
			send("raw", &bodies)
		})
	}
	wg.Wait()
	if n := rendered.Load(); n != 1 {
		t.Errorf("rendered %d times, want once", n)
	}
	send("counted", nil)
	close(got)
	arrivals := map[string]int{}
	for in := range got {
		arrivals[string(in.body)]++
	}
	want, err := standard().Body(testEvent())
	if err != nil || arrivals[string(want)] != 17 || arrivals[oddData] != 16 {
		t.Errorf("arrived were %v, %v", arrivals, err)
	}
	e := testEvent()
	if raw, err := formatOf("raw").Body(e); err != nil || &raw[0] != &e.Data[0] {
		t.Errorf("raw is a copy of the event's bytes, %v", err)
	}
}

func BenchmarkStandardBody(b *testing.B) {
	e := testEvent()
	e.Data = append(append([]byte(`"`), bytes.Repeat([]byte("x"), 1022)...), '"')
	b.ReportAllocs()
	for b.Loop() {
		if _, err := standard().Body(e); err != nil {
			b.Fatal(err)
		}
	}
}
