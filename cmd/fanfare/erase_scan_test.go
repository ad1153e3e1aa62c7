package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// scan returns the files of a data directory that hold the text, paths relative to it: as it is, or in base64.
func (e *erasure) scan(dir, text string) []string {
	e.t.Helper()
	// What Postgres has in memory would reach its files later.
	if _, err := e.db.ExecContext(context.WithoutCancel(e.t.Context()), `CHECKPOINT`); err != nil {
		e.t.Fatal(err)
	}
	return servertest.FilesWith(e.t, dir, text)
}

// answering answers each request with the text: well on /ok, else not.
func answering(t *testing.T, text string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Said", text)
		if !strings.HasPrefix(r.URL.Path, "/ok") {
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprint(w, text)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// subscribe makes a tenant's subscriptions, one for each thing that may become of a delivery.
func (e *erasure) subscribe(tenant, receiver string) {
	e.t.Helper()
	for path, more := range map[string]map[string]any{
		"ok":    {},
		"dead":  {"retry": map[string]any{"max_retries": 0}},
		"later": {"retry": map[string]any{"schedule": []string{"100ms", "1h"}}},
		"held":  {"status": "paused"},
	} {
		sub := map[string]any{"name": path, "url": receiver + "/" + path, "event_types": []string{"load.*"}}
		for field, value := range more {
			sub[field] = value
		}
		call(e.t, e.api, "POST /v1/subscriptions?tenant="+tenant, sub, nil)
	}
}

// publish publishes an event whose every part that is the customer's is the text.
func (e *erasure) publish(tenant, id, text string) {
	e.t.Helper()
	call(e.t, e.api, "POST /v1/events?tenant="+tenant, map[string]any{
		"type": "load.test", "id": id, "object_id": text, "resource_ids": []string{text}, "changed": []string{text},
		"data": map[string]any{"text": text},
	}, nil)
}

// settled returns once so many events of a tenant have an outcome for each of its subscriptions.
func (e *erasure) settled(tenant string, events int) {
	e.t.Helper()
	await(e.t, tenant+"'s deliveries have outcomes", func() bool {
		return e.count(`SELECT count(*) FROM deliveries WHERE tenant = $1`, tenant) == 2*events &&
			e.count(`SELECT count(*) FROM deferrals WHERE tenant = $1 AND attempts = 2`, tenant) == events &&
			e.count(`SELECT count(*) FROM deferrals WHERE tenant = $1 AND held`, tenant) == events
	})
}

// answers returns what was answered to the deliveries of an event, as the API shows it.
func (e *erasure) answers(tenant, event string) (texts []string) {
	e.t.Helper()
	var list struct{ Data []struct{ ID string } }
	call(e.t, e.api, "GET /v1/deliveries?tenant="+tenant+"&event="+event, nil, &list)
	for _, d := range list.Data {
		var shown struct {
			Log []struct{ Response string } `json:"log"`
		}
		call(e.t, e.api, "GET /v1/deliveries/"+d.ID, nil, &shown)
		for _, a := range shown.Log {
			texts = append(texts, a.Response)
		}
	}
	return texts
}

// Contents are in the clear in the stream of events alone. Once an event or a tenant is erased, no file of the data directory holds
// any of them: of NATS, of Postgres, or of its log of changes.
func TestErasedContentsLeaveTheDataDirectory(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	e := erasureOf(t, dir)
	single, event, bad, theirs := rand.Text(), rand.Text(), rand.Text(), rand.Text()
	answer, theirAnswer := rand.Text(), rand.Text()
	e.subscribe("acme", answering(t, answer))
	e.subscribe("globex", answering(t, theirAnswer))
	e.publish("acme", "single", single)
	e.publish("acme", "event", event)
	e.publish("globex", "theirs", theirs)
	if _, err := e.js.Publish(t.Context(), "events.acme.bad", []byte("{"+bad)); err != nil {
		t.Fatal(err)
	}
	e.settled("acme", 2)
	e.settled("globex", 1)
	await(t, "the bad message is in quarantine", func() bool {
		return e.count(`SELECT count(*) FROM quarantine WHERE tenant = 'acme'`) == 1
	})

	for name, text := range map[string]string{"single": single, "event": event, "bad": bad, "theirs": theirs} {
		found := e.scan(dir, text)
		if len(found) == 0 {
			t.Errorf("%s is found nowhere before it is erased: the search is wrong", name)
		}
		for _, path := range found {
			if !strings.Contains(path, filepath.Join("streams", fanout.Stream)) {
				t.Errorf("%s is in the clear in %s", name, path)
			}
		}
	}
	for _, text := range []string{answer, theirAnswer} {
		if found := e.scan(dir, text); len(found) > 0 {
			t.Errorf("an answer is in the clear in %q", found)
		}
	}
	// All of it was stored, and is shown to those who may see it.
	if got := e.answers("acme", "single"); len(got) != 4 || !slices.Equal(slices.Compact(got), []string{answer}) {
		t.Errorf("the answers are shown as %q, want %q four times", got, answer)
	}
	var quarantine struct{ Data []struct{ Data []byte } }
	call(t, e.api, "GET /v1/quarantine?tenant=acme", nil, &quarantine)
	if len(quarantine.Data) != 1 || string(quarantine.Data[0].Data) != "{"+bad {
		t.Errorf("the quarantine shows %q", quarantine.Data)
	}

	call(t, e.api, "DELETE /v1/events/single/data?tenant=acme", nil, nil)
	if found := e.scan(dir, single); len(found) > 0 {
		t.Errorf("the erased event is still in %q", found)
	}
	if got := e.answers("acme", "single"); slices.Contains(got, answer) {
		t.Errorf("the answers to the erased event are shown as %q", got)
	}
	call(t, e.api, "DELETE /v1/tenants/acme", nil, nil)
	await(t, "the tenant is erased", func() bool {
		return strings.Contains(fmt.Sprint(e.api.Do(t.Context(), "GET /v1/tenants/acme", nil, nil)), "404")
	})
	for name, text := range map[string]string{"single": single, "event": event, "bad": bad, "answer": answer} {
		if found := e.scan(dir, text); len(found) > 0 {
			t.Errorf("%s is still in %q", name, found)
		}
	}
	if n := e.count(`SELECT count(*) FROM tenant_keys WHERE tenant = 'acme'`); n != 0 {
		t.Errorf("%d keys of the tenant are left", n)
	}

	// Others lose nothing: what was held for them is still delivered.
	if got := e.answers("globex", "theirs"); len(got) != 4 || !slices.Equal(slices.Compact(got), []string{theirAnswer}) {
		t.Errorf("another tenant's answers are shown as %q", got)
	}
	var held struct{ Data []struct{ ID string } }
	call(t, e.api, "GET /v1/deliveries?tenant=globex&state=pending", nil, &held)
	for _, d := range held.Data {
		call(t, e.api, "POST /v1/deliveries/"+d.ID+"/retry", nil, nil)
	}
	await(t, "what was pending is attempted again", func() bool { return len(e.answers("globex", "theirs")) == 6 })
}
