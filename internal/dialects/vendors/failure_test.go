package vendors_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/dialects"
	"github.com/fanfarehq/fanfare/internal/quota"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// shape is how a vendor says that something failed, with the status and the message in it, and where it can be asked.
type shape struct {
	vendor, list, contentType string
	says                      func(status, title, message string) string
}

var shapes = []shape{
	{"leat", "/api/v3/oauth/clients/webhook-subscriptions", "application/json", func(status, _, message string) string {
		return `{"message":"` + message + `","code":` + status + `,"status_code":` + status + `}`
	}},
	{"kajabi", "/v1/hooks", "application/vnd.api+json", func(status, title, message string) string {
		return `{"errors":[{"status":"` + status + `","title":"` + title + `","detail":"` + message + `"}]}`
	}},
	{"passona", "/api/2.0/webhooks", "application/json", func(_, _, message string) string { return `{"message":"` + message + `"}` }},
	{"babelfor", "/v1/webhooks/subscriptions", "application/json; charset=utf-8", func(_, _, message string) string {
		return `{"success":false,"message":"` + message + `"}`
	}},
}

func (s shape) check(t *testing.T, a answer, status int, title, message string) {
	t.Helper()
	number := http.StatusText(status)
	if title == "" {
		title = number
	}
	want := s.says(strings.Fields(statusLine(status))[0], title, message)
	if a.status != status || a.body != want || a.header.Get("Content-Type") != s.contentType {
		t.Errorf("%s: got %d %s %s, want %d %s", s.vendor, a.status, a.header.Get("Content-Type"), a.body, status, want)
	}
}

func statusLine(status int) string {
	r := httptest.NewRecorder()
	r.WriteHeader(status)
	return r.Result().Status
}

// Where Postgres is away, each vendor says so in its own way, and nothing is half done; it is used again once it is back.
func TestPostgresAway(t *testing.T) {
	t.Parallel()
	pg := servertest.NewRestartablePostgres(t)
	h := newHouse(t, func(h *house) { h.database = pg.URL() })
	_, key := h.key("acme", allScopes)
	pg.Stop()
	for _, s := range shapes {
		a := h.call(key, "GET "+s.list, "")
		if s.vendor == "leat" { // its SDK takes 503 for announced maintenance
			s.check(t, a, http.StatusInternalServerError, "", "a part of the system is away; try again")
			continue
		}
		s.check(t, a, http.StatusServiceUnavailable, "", "a part of the system is away; try again")
		if a.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", s.vendor)
		}
	}
	pg.Start()
	h.Eventually("the vendors answer again", func() bool {
		for _, s := range shapes {
			if h.call(key, "GET "+s.list, "").status != http.StatusOK {
				return false
			}
		}
		return true
	})
}

// However many wrong keys come from an address, no valid key of it is refused.
func TestManyWrongKeys(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for i, s := range shapes {
		for n := range 1200 {
			if a := h.call(fmt.Sprintf("ff_%06d%06d_%043d", i, n, n), "GET "+s.list, ""); a.status != http.StatusUnauthorized {
				t.Fatalf("%s: a wrong key got %d", s.vendor, a.status)
			}
		}
		_, key := h.key("acme", allScopes)
		if a := h.call(key, "GET "+s.list, ""); a.status != http.StatusOK {
			t.Errorf("%s: a valid key got %d", s.vendor, a.status)
		}
	}
}

// A tenant that has as many subscriptions as it may is told so in the vendor's way.
func TestLimitReached(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	q, err := quota.New(quota.Config{}, quota.Deps{DB: h.DB})
	if err != nil {
		t.Fatal(err)
	}
	h.store.Limit(q)
	_, key := h.key("acme", allScopes)
	if _, err := h.DB.Exec(`INSERT INTO tenants (tenant, limits, limits_at) VALUES ('acme', '{"subscriptions": 0}', now())
		ON CONFLICT (tenant) DO UPDATE SET limits = excluded.limits, limits_at = now()`); err != nil {
		t.Fatal(err)
	}
	for _, s := range shapes {
		c := creations[s.vendor]
		a := h.call(key, c.what, strings.ReplaceAll(c.body, "$url", h.receiver.URL))
		status, says := http.StatusUnprocessableEntity, "the limit subscriptions is reached"
		switch s.vendor {
		case "leat":
			says = `"code":1003` // its shape has no more words
		case "babelfor":
			status = http.StatusBadRequest // its answer to any input that cannot be taken
		}
		if a.status != status || !strings.Contains(a.body, says) || a.header.Get("Content-Type") != s.contentType {
			t.Errorf("%s: got %d %s %s", s.vendor, a.status, a.header.Get("Content-Type"), a.body)
		}
	}
}

// What nobody foresaw is said without details, and logged with them.
func TestPanicsAndErrors(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, v := range h.vendors {
		breaks := func(name string, handler dialects.Handler) {
			v.HandlePublic(v.Prefixes[0]+"/break/"+name, dialects.Methods{http.MethodPost: handler})
		}
		breaks("panic", func(*dialects.Call) error { panic("a secret") })
		breaks("error", func(*dialects.Call) error { return errors.New("a secret") })
		breaks("late", func(c *dialects.Call) error {
			_, _ = c.W.Write([]byte("half"))
			panic("a secret")
		})
	}
	for i, s := range shapes {
		prefix := h.vendors[i].Prefixes[0]
		for _, how := range []string{"panic", "error"} {
			s.check(t, h.call("", "POST "+prefix+"/break/"+how, ""), http.StatusInternalServerError, "", "Internal Server Error")
		}
		// The part is not to be taken for the whole.
		res, err := client.Post(h.url+prefix+"/break/late", "text/plain", nil)
		if err == nil {
			_, err = io.ReadAll(res.Body)
			_ = res.Body.Close()
		}
		if err == nil {
			t.Errorf("%s: an answer that broke off looks whole", s.vendor)
		}
		log := h.logged()
		if own, secrets := strings.Count(log, "dialect="+s.vendor+" "), strings.Count(log, "a secret"); own != 3 || secrets != 3*(i+1) {
			t.Errorf("%s: logged %d times, with the cause %d times", s.vendor, own, secrets)
		}
	}
}
