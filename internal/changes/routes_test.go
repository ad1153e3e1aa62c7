package changes_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/changes"
	"github.com/fanfarehq/fanfare/internal/fair"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

type admin struct{}

func (admin) Authenticate(context.Context, string) (api.Caller, error) {
	return api.Caller{Admin: true}, nil
}

// The lists share places with other costly reads: one that finds none is 503.
func TestListsTakePlaces(t *testing.T) {
	t.Parallel()
	db, room, mux := servertest.Postgres(t), fair.NewRoom(1, time.Millisecond), http.NewServeMux()
	changes.Routes(api.New(mux, api.Config{Title: "t", Version: "1", CursorKey: []byte("k")}, admin{}), changes.NewLog(db), room)
	id := uuid.NewString()
	if _, err := db.Exec(`INSERT INTO changes (id, at, tenant, resource, resource_id, revision, action, actor_kind, actor_id, actor_name, changed)
VALUES (gen_random_uuid(), now(), 'acme', 'subscription', $1, 1, 'delete', 'key', 'k', '', '{}')`, id); err != nil {
		t.Fatal(err)
	}
	want := func(status int) {
		t.Helper()
		for _, path := range []string{"/v1/changes", "/v1/subscriptions/" + id + "/changes"} {
			req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
			req.Header.Set("X-API-Key", "k")
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, req)
			if w.Code != status {
				t.Errorf("%s: got %d %s, want %d", path, w.Code, w.Body, status)
			}
		}
	}
	leave, err := room.Enter(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	want(http.StatusServiceUnavailable)
	leave()
	want(http.StatusOK)
}
