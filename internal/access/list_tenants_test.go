package access_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// Tenants are listed newest first, found by text, and counted; deleted ones are left out.
func TestTenantsAreListed(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	p := start(t, db)
	if _, err := db.Exec(`INSERT INTO tenants (tenant, name, metadata, created_at, deleted_at)
		SELECT 'tenant-' || i, CASE WHEN i = 3 THEN 'Größe' ELSE '' END, '{"n":"x"}', timestamptz '2026-01-01' + i * interval '1 hour',
			CASE WHEN i = 2 THEN now() END FROM generate_series(1, 5) AS i`); err != nil {
		t.Fatal(err)
	}
	first := uuid.New()
	for i, status := range []string{"active", "active", "paused", "disabled"} {
		id := first
		if i > 0 {
			id = uuid.New()
		}
		if _, err := db.Exec(`INSERT INTO subscriptions (id, tenant, dialect, name, description, url, event_types, resource_id, changed, filter, headers,
			payload_format, retry_schedule, timeout_ms, max_in_flight, secrets, status, disabled_reason, version, metadata, scopes, created_at, updated_at, revision)
			VALUES ($1, 'tenant-4', 'native', '', '', 'https://example.com/', '{a}', '', '{}', '', '{}', 'standard', '{}', 1, 1, '', $2, '', 'V1', '{}', '{}', now(), now(), $3)`,
			id, status, 1000+i); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Exec(`INSERT INTO failing (subscription_id, since, failures, told_at) VALUES ($1, now(), 30, now())`, first); err != nil {
		t.Fatal(err)
	}
	type list struct {
		Data []struct {
			Tenant, Name  string
			Metadata      map[string]string
			Subscriptions struct{ Active, Paused, Disabled, Failing int }
		}
		NextCursor string `json:"next_cursor"`
	}
	names := func(query string) (text string, l list) {
		t.Helper()
		if status := p.call(t, adminKey, "GET /v1/tenants?"+query, "", &l); status != 200 {
			t.Fatalf("%s: %d", query, status)
		}
		var all []string
		for _, item := range l.Data {
			all = append(all, strings.TrimPrefix(item.Tenant, "tenant-"))
		}
		return strings.Join(all, " "), l
	}
	for query, want := range map[string]string{
		"": "5 4 3 1", "order=asc": "1 3 4 5", "q=TENANT-4": "4", "q=größe": "3", "q=none": "", "tenant=tenant-3": "3", "tenant=tenant-2": "",
	} {
		if got, _ := names(query); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
	for _, order := range []string{"asc", "desc"} {
		var all []string
		for cursor := ""; ; {
			got, l := names("limit=1&order=" + order + "&cursor=" + cursor)
			if all = append(all, got); l.NextCursor == "" {
				break
			}
			cursor = l.NextCursor
		}
		if got := strings.Join(all, " "); got != "5 4 3 1" && order == "desc" || got != "1 3 4 5" && order == "asc" {
			t.Errorf("%s, page by page: %s", order, got)
		}
	}
	_, l := names("q=tenant-4")
	if got := fmt.Sprint(l.Data[0].Subscriptions, l.Data[0].Metadata); got != "{2 1 1 1} map[n:x]" {
		t.Errorf("got %s", got)
	}
	key := p.create(t, adminKey, acmeKeys).Key
	if status := p.call(t, key, "GET /v1/tenants", "", nil); status != 403 {
		t.Errorf("a tenant's key: %d", status)
	}
}
