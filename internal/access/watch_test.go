package access_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/golang-jwt/jwt/v5"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// A request that takes long ends when its caller does, in a process that learns of it from Postgres alone.
func TestLongRequestsEndWithTheirCaller(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	idp := newProvider(t)
	here := start(t, db)
	there := start(t, db, withProvider(idp))
	there.run(t)
	begun, ended := make(chan string, 10), make(chan string, 10)
	mux := http.NewServeMux()
	op := huma.Operation{OperationID: "long", Method: http.MethodGet, Path: "/long"}
	api.Mount(api.New(mux, api.Config{Title: "t", Version: "1"}, there.Access), op, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.Header.Get("X-Name")
		begun <- name
		<-r.Context().Done()
		if errors.Is(context.Cause(r.Context()), api.ErrUnauthenticated) {
			ended <- name
		}
		api.WriteError(w, r, fmt.Errorf("work: %w", r.Context().Err()))
	}), api.Scope("events:write"))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	claims := goodClaims(there.now())
	revoked, kept := here.create(t, adminKey, acmeKeys), here.create(t, adminKey, acmeKeys)
	erased := here.create(t, adminKey, `{"name":"n","tenant":"erased","scopes":["events:write"]}`)
	expires := here.create(t, adminKey, `{"name":"n","tenant":"acme","scopes":["events:write"],"expires_at":"`+
		there.now().Add(time.Hour).UTC().Format(time.RFC3339)+`"}`)
	ofErased := goodClaims(there.now())
	ofErased["tenant"] = "erased"
	callers := map[string]string{
		"revoked key": revoked.Key, "expired key": expires.Key, "key of an erased tenant": erased.Key, "kept key": kept.Key,
		"expired token":             idp.sign(t, jwt.SigningMethodES256, "ec", nil, claims),
		"token of an erased tenant": idp.sign(t, jwt.SigningMethodES256, "ec", nil, ofErased),
	}
	ctx, leave := context.WithCancel(t.Context())
	statuses := make(chan string, len(callers))
	for name, credential := range callers {
		go func() {
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/long", nil)
			req.Header.Set("Authorization", "Bearer "+credential)
			req.Header.Set("X-Name", name)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				statuses <- name + " left"
				return
			}
			_ = resp.Body.Close()
			statuses <- fmt.Sprint(name, " ", resp.StatusCode)
		}()
	}
	for range callers {
		<-begun
	}
	ends := func(names ...string) {
		t.Helper()
		want := map[string]bool{}
		for _, name := range names {
			want[name+" 401"] = true
		}
		for range names {
			<-ended
			if got := <-statuses; !want[got] {
				t.Errorf("%s, want one of %v", got, want)
			}
		}
	}
	there.advance(2 * time.Second) // the requests take long
	if status := here.call(t, adminKey, "DELETE /v1/keys/"+revoked.ID, "", nil); status != http.StatusNoContent {
		t.Fatal(status)
	}
	ends("revoked key")
	if status := here.call(t, adminKey, "DELETE /v1/tenants/erased", "", nil); status != http.StatusAccepted {
		t.Fatal(status)
	}
	ends("key of an erased tenant", "token of an erased tenant")
	there.advance(time.Hour + time.Minute)
	ends("expired key", "expired token")
	leave()
	if got := <-statuses; got != "kept key left" {
		t.Error(got)
	}
}
