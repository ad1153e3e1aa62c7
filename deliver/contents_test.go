package deliver_test

import (
	"bytes"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// keys are those of one process.
func (r *rig) keys() *tenantkeys.Keys {
	r.T.Helper()
	return must(tenantkeys.New(r.DB, r.Ring, r.Log))(r.T)
}

// sealing starts a worker and a recorder that seal, and has the rig's tasks sealed by another process. It returns the keys of
// the worker.
func (r *rig) sealing(cfg deliver.Config) *tenantkeys.Keys {
	r.T.Helper()
	r.outbox.SealWith(r.keys())
	p := r.parts(cfg)
	p.deps.Keys = r.keys()
	r.start(p)
	r.recorder()
	return p.deps.Keys
}

// fruity makes an event that says gooseberry wherever a customer may say something.
func (r *rig) fruity() *event.Event {
	e := r.event()
	e.Data, e.ContentType = []byte(`{"berry": "gooseberry"}`), "application/json"
	e.ObjectID, e.ResourceIDs, e.Changed = "gooseberry-object", []string{"gooseberry-resource"}, []string{"gooseberry-field"}
	e.Cloud = &event.Cloud{
		ID: "gooseberry-id", Source: "/gooseberry", Subject: "gooseberry-subject", DataSchema: "https://gooseberry.example.com/",
		Extensions: []event.Extension{{Name: "berry", Value: "gooseberry-extension"}},
	}
	e.Time, e.AcceptedAt = e.Time.Round(0), e.AcceptedAt.Round(0)
	return e
}

// Contents are sealed in the stream and are sent as they would be without. In the place of another event they are worth nothing.
func TestContentsAreSealedInTheStream(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.sealing(quick())
	sent := must(r.NC.SubscribeSync("tasks.>"))(t)
	receiver := servertest.NewReceiver(t)
	formatted := func(path, format string) *subscriptions.Subscription {
		return r.subscribe(receiver.URL+path, func(s *subscriptions.Subscription) { s.PayloadFormat = format })
	}
	e := r.fruity()
	plain := deliver.NewOutbox(r.JS, r.publisher(r.JS))
	formats := []string{"standard", "cloudevents", "raw"}
	var tasks []deliver.Task // of one event, which is sealed once
	for _, format := range formats {
		tasks = append(tasks, r.task(e, formatted("/sealed/"+format, format)))
		if err := plain.Send(t.Context(), r.task(e, formatted("/clear/"+format, format))); err != nil {
			t.Fatal(err)
		}
		if msg := must(sent.NextMsg(time.Minute))(t); !bytes.Contains(msg.Data, []byte("gooseberry")) {
			t.Fatalf("a message in the clear says %q", msg.Data)
		}
	}
	if err := r.outbox.Send(t.Context(), tasks...); err != nil {
		t.Fatal(err)
	}
	msg := must(sent.NextMsg(time.Minute))(t)
	if bytes.Contains(msg.Data, []byte("gooseberry")) {
		t.Errorf("contents are in the clear: %q", msg.Data)
	}
	bodies := make(map[string]string)
	for _, req := range receiver.Wait(2 * len(formats)) {
		bodies[req.Path] = string(req.Body)
	}
	for _, format := range formats {
		if got, want := bodies["/sealed/"+format], bodies["/clear/"+format]; got != want || !strings.Contains(want, "gooseberry") {
			t.Errorf("%s: got %s, want %s", format, got, want)
		}
	}

	other := *e
	other.UID[15]++
	if _, err := r.JS.Publish(t.Context(), msg.Subject, bytes.ReplaceAll(msg.Data, e.UID[:], other.UID[:])); err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		r.ended(outcome.ID(other.UID, task.Targets[0].Subscription, 0, e.AcceptedAt), outcome.Dead, outcome.ReasonExpired)
	}
	if n := len(receiver.Requests()); n != 2*len(formats) {
		t.Errorf("%d requests, want no more than %d", n, 2*len(formats))
	}
}

// The contents of an event that the ledger keeps come back as they were, and for no other event.
func TestKeptContentsComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	writes, reads := r.keys(), r.keys()
	bare := &event.Event{UID: uuid.Must(uuid.NewV7()), ID: "e", Tenant: "acme", Time: time.Unix(1, 0).UTC(), AcceptedAt: time.Unix(2, 0).UTC(), Data: []byte("1")}
	for _, want := range []*event.Event{r.fruity(), bare} {
		packed := event.Pack(want, must(event.Seal(t.Context(), writes, want))(t))
		e, sealed, err := event.Unpack(packed)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(packed, []byte("gooseberry")) || e.Data != nil || e.ObjectID != "" || e.ResourceIDs != nil || e.Changed != nil || e.Cloud != nil {
			t.Errorf("contents are in the clear: %+v", e)
		}
		other := *e
		other.UID[15]++
		if err := event.Open(t.Context(), reads, &other, sealed); !errors.Is(err, event.ErrGone) {
			t.Errorf("in another event's place: got %+v, %v", other, err)
		}
		if err := event.Open(t.Context(), reads, e, sealed); err != nil || !reflect.DeepEqual(e, want) {
			t.Errorf("got %+v, %v, want %+v", e, err, want)
		}
	}
}

// A task whose key was destroyed is not sent, not even empty.
func TestATaskWhoseKeyIsDestroyedIsNotSent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	receiver := servertest.NewReceiver(t)
	sub := r.subscribe(receiver.URL, nil)
	r.outbox.SealWith(r.keys())
	id := r.send(r.event(), sub)
	if _, err := r.DB.Exec(`UPDATE tenant_keys SET key = ''`); err != nil {
		t.Fatal(err)
	}
	r.sealing(quick())
	r.ended(id, outcome.Dead, outcome.ReasonExpired)
	if got := receiver.Requests(); len(got) > 0 {
		t.Errorf("it was sent: %+v", got)
	}
	if n := r.Count(`SELECT count(*) FROM event_data`); n != 0 {
		t.Errorf("%d events without contents are kept", n)
	}
}

// A task whose key cannot be read yet waits; nothing is lost and nothing is sent without its contents.
func TestATaskWaitsForItsKey(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	receiver := servertest.NewReceiver(t)
	sub := r.subscribe(receiver.URL, nil)
	r.outbox.SealWith(r.keys())
	e := r.event()
	id := r.send(e, sub)
	tx := must(r.DB.BeginTx(t.Context(), nil))(t)
	if _, err := tx.Exec(`LOCK TABLE tenant_keys IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	r.sealing(quick())
	r.Eventually("the worker to ask for the key", func() bool {
		return r.Count(`SELECT count(*) FROM pg_locks WHERE relation = 'tenant_keys'::regclass AND NOT granted`) > 0
	})
	if got := receiver.Requests(); len(got) > 0 {
		t.Errorf("it was sent without its contents: %+v", got)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	r.ended(id, outcome.Delivered, outcome.ReasonOK)
	if got := receiver.Requests(); len(got) != 1 || !bytes.Contains(got[0].Body, e.Data) {
		t.Errorf("got %+v, want the event once", got)
	}
}

// Answers are sealed in the ledger and shown to whoever reads it; those that an earlier version stored are shown as they are.
func TestAnswersAreSealed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	keys := r.sealing(quick())
	receiver := servertest.NewReceiver(t, servertest.Reply(http.StatusInternalServerError, http.Header{"X-Berry": {"gooseberry"}}, "gooseberry"))
	ended, later := r.subscribe(receiver.URL, once), r.subscribe(receiver.URL, retries(time.Hour))
	broken := r.subscribe("http://127.0.0.1:1/", once) // its error says why
	e := r.event()
	for _, sub := range []*subscriptions.Subscription{ended, broken} {
		r.ended(r.send(e, sub), outcome.Dead, map[bool]outcome.Reason{true: outcome.ReasonServer, false: outcome.ReasonConnect}[sub == ended])
	}
	r.waits(r.send(e, later), outcome.ReasonServer)

	log := history.NewLog(r.DB, must(deliver.NewEvents(deliver.EventsConfig{Read: r.read, Keys: keys}, r.DB))(t))
	check := func(when string) {
		t.Helper()
		for _, sub := range []*subscriptions.Subscription{ended, later} {
			d := must(log.Newest(t.Context(), sub.ID, 1))(t)[0]
			if got := must(log.Responses(t.Context(), []uuid.UUID{d.ID}))(t)[d.ID]; string(got) != "gooseberry" {
				t.Errorf("%s: the response is shown as %q", when, got)
			}
			list := must(history.NewReader(r.DB, keys).Attempts(t.Context(), "acme", d.ID))(t)
			if len(list) != 1 || string(list[0].Response) != "gooseberry" || !bytes.Contains(list[0].Headers, []byte("gooseberry")) {
				t.Errorf("%s: the attempts are %+v", when, list)
			}
		}
		counts := history.NewCounts(history.RoutesDeps{DB: r.DB, Events: must(deliver.NewEvents(deliver.EventsConfig{Read: r.read, Keys: keys}, r.DB))(t)})
		if shown := must(counts.DescribeLast(t.Context(), e.UID, ended.ID))(t); !bytes.Contains(shown, []byte(`"response":"gooseberry"`)) {
			t.Errorf("%s: explain shows %s", when, shown)
		}
		d := must(log.Newest(t.Context(), broken.ID, 1))(t)[0]
		if d.Last == nil || !bytes.Contains([]byte(d.Last.Error), []byte("refused")) {
			t.Errorf("%s: the error is shown as %+v", when, d.Last)
		}
	}
	check("sealed")
	const plain = `SELECT (SELECT count(*) FROM deliveries WHERE response = 'gooseberry' OR error LIKE '%refused%' OR position('gooseberry'::bytea IN response_headers) > 0)
    + (SELECT count(*) FROM attempts WHERE response = 'gooseberry' OR position('gooseberry'::bytea IN response_headers) > 0)`
	if n := r.Count(plain); n != 0 {
		t.Errorf("%d answers are in the clear", n)
	}
	for _, earlier := range []string{
		`UPDATE deliveries SET response = 'gooseberry' WHERE response IS NOT NULL`, `UPDATE attempts SET response = 'gooseberry'`,
		`UPDATE deliveries SET error = 'connection refused' WHERE error <> ''`,
	} {
		if _, err := r.DB.Exec(earlier); err != nil {
			t.Fatal(err)
		}
	}
	check("of an earlier version")
}
