package subscriptions_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

func TestFieldsOfEventTypes(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.want(t, 201, "admin POST /v1/event-types", `{"name":"new"}`)
	s.want(t, 201, "admin POST /v1/event-types", `{"name":"own","tenant":"acme"}`)
	for body, want := range map[string]string{
		`{"name":"a","replaced_by":"none"}`:                  "body.replaced_by",
		`{"name":"a","replaced_by":"a"}`:                     "body.replaced_by",
		`{"name":"a","replaced_by":"own"}`:                   "body.replaced_by", // of one tenant alone
		`{"name":"a","tenant":"globex","replaced_by":"own"}`: "body.replaced_by",
		`{"name":"a","validation":"strict"}`:                 "body.validation",
	} {
		if r := s.want(t, 422, "admin POST /v1/event-types", body); r.locations() != want {
			t.Errorf("%s: got %s", body, r.text)
		}
	}
	s.want(t, 201, "admin POST /v1/event-types", `{"name":"a","tenant":"acme","replaced_by":"own"}`)
	made := s.want(t, 201, "admin POST /v1/event-types", `{"name":"a","deprecated":true,"replaced_by":"new","validation":"warn"}`)
	if made.body["deprecated"] != true || made.body["replaced_by"] != "new" || made.body["validation"] != "warn" || made.body["schema_version"] != 0.0 {
		t.Errorf("made: %s", made.text)
	}
	s.want(t, 200, "admin PATCH /v1/event-types/a", `{"description":"d"}`)
	s.want(t, 422, "admin PATCH /v1/event-types/a", `{"replaced_by":"gone"}`)
	got := s.want(t, 200, "admin PATCH /v1/event-types/a", `{"deprecated":null,"replaced_by":null,"validation":null}`)
	if got.body["deprecated"] != false || got.body["replaced_by"] != nil || got.body["validation"] != "enforce" {
		t.Errorf("cleared: %s", got.text)
	}
	changed := s.want(t, 200, "admin GET /v1/changes?resource=event_type&id=a&limit=1", "").body["data"].([]any)[0].(map[string]any)
	if fmt.Sprint(changed["changed"]) != "[deprecated replaced_by validation]" || changed["before"].(map[string]any)["validation"] != "warn" {
		t.Errorf("the change is recorded as %v", changed)
	}
}

// A type is not deleted while others name it as their replacement.
func TestAReplacementStays(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for _, body := range []string{
		`{"name":"new"}`, `{"name":"b","replaced_by":"new"}`, `{"name":"a","replaced_by":"new"}`, `{"name":"a","tenant":"acme","replaced_by":"new"}`,
		`{"name":"new","tenant":"globex"}`, `{"name":"c","tenant":"globex","replaced_by":"new"}`, `{"name":"d","tenant":"globex","replaced_by":"b"}`,
		`{"name":"own","tenant":"acme"}`, `{"name":"e","tenant":"acme","replaced_by":"own"}`,
	} {
		s.want(t, 201, "admin POST /v1/event-types", body)
	}
	refused := func(path, names string) {
		t.Helper()
		if r := s.want(t, 409, "admin DELETE /v1/event-types/"+path, ""); r.body["detail"] != "other event types name it in replaced_by: "+names {
			t.Errorf("%s: got %s", path, r.text)
		}
	}
	refused("own?tenant=acme", "e")
	s.want(t, 200, "admin PATCH /v1/event-types/e?tenant=acme", `{"replaced_by":null}`)
	s.want(t, 204, "admin DELETE /v1/event-types/own?tenant=acme", "")
	refused("new", "a, a of tenant acme, b") // c has a replacement of its tenant's own
	refused("b", "d of tenant globex")
	s.want(t, 204, "admin DELETE /v1/event-types/new?tenant=globex", "") // for c, new is every tenant's from then on
	refused("new", "a, a of tenant acme, b, c of tenant globex")
	s.want(t, 200, "admin PATCH /v1/event-types/b", `{"replaced_by":null}`)
	s.want(t, 204, "admin DELETE /v1/event-types/c?tenant=globex", "")
	s.want(t, 204, "admin DELETE /v1/event-types/a", "")
	refused("new", "a of tenant acme")
	s.want(t, 204, "admin DELETE /v1/event-types/a?tenant=acme", "")
	s.want(t, 204, "admin DELETE /v1/event-types/new", "")
}

func TestReservedEventTypesAreNotDeclared(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for _, body := range []string{`{"name":"fanfare.delivery.dead"}`, `{"name":"fanfare.x","tenant":"acme","schema":true}`} {
		if r := s.want(t, 422, "admin POST /v1/event-types", body); r.locations() != "body.name" {
			t.Errorf("%s: got %s", body, r.text)
		}
	}
	s.want(t, 201, "admin POST /v1/event-types", `{"name":"fanfares"}`)
	s.want(t, 201, "admin POST /v1/event-types", `{"name":"fanfare"}`)
}

func TestVersionsOfSchemas(t *testing.T) {
	t.Parallel()
	s := serve(t)
	const path = "/v1/event-types/order"
	versions := func(who, query string) string {
		var all []string
		for _, item := range s.want(t, 200, who+" GET "+path+"/versions"+query, "").body["data"].([]any) {
			v := item.(map[string]any)
			all = append(all, fmt.Sprintf("%v %v %v", v["version"], v["schema"], v["actor"].(map[string]any)["kind"]))
		}
		return strings.Join(all, "; ")
	}
	s.want(t, 201, "admin POST /v1/event-types", `{"name":"order"}`)
	if got := versions("acme", ""); got != "" {
		t.Errorf("without a schema: %s", got)
	}
	s.want(t, 200, "admin PATCH "+path, `{"schema":{"type":"object"}}`)
	s.want(t, 200, "admin PATCH "+path, `{"description":"no other schema"}`)
	s.want(t, 200, "admin PATCH "+path, `{"schema":{"title":"Order"}}`)
	s.want(t, 200, "admin PATCH "+path, `{"schema":{"title":"Order"}}`)
	if got := s.want(t, 200, "admin PATCH "+path, `{"schema":null}`); got.body["schema_version"] != 3.0 {
		t.Errorf("removed: %s", got.text)
	}
	const want = "3 <nil> admin; 2 map[title:Order type:object] admin; 1 map[type:object] admin"
	if got := versions("acme", ""); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := versions("globex", "?order=asc&limit=2"); got != "1 map[type:object] admin; 2 map[title:Order type:object] admin" {
		t.Errorf("the first two: %s", got)
	}
	cursor := s.want(t, 200, "acme GET "+path+"/versions?limit=2", "").body["next_cursor"].(string)
	if got := versions("acme", "?limit=2&cursor="+cursor); got != "1 map[type:object] admin" {
		t.Errorf("the second page: %s", got)
	}
	s.want(t, 403, "reader GET "+path+"/versions", "")
	s.want(t, 404, "acme GET /v1/event-types/none/versions", "")

	// A tenant's own type has versions of its own, which are nobody else's.
	s.want(t, 201, "admin POST /v1/event-types?tenant=acme", `{"name":"order","schema":{"type":"array"}}`)
	if got := versions("acme", ""); got != "1 map[type:array] admin" {
		t.Errorf("acme's own: %s", got)
	}
	if got := versions("globex", ""); got != want {
		t.Errorf("globex sees %s", got)
	}
	// What is deleted and made again begins anew.
	s.want(t, 204, "admin DELETE "+path, "")
	if again := s.want(t, 201, "admin POST /v1/event-types", `{"name":"order","schema":true}`); again.body["schema_version"] != 1.0 {
		t.Errorf("made again: %s", again.text)
	}
	if got := versions("globex", ""); got != "1 true admin" {
		t.Errorf("made again: %s", got)
	}
	// A deletion by an earlier version of Fanfare leaves the versions.
	if _, err := s.db.ExecContext(t.Context(), `WITH r AS (UPDATE revision SET value = value + 1 RETURNING value)
UPDATE event_types SET deleted = true, schema = NULL, revision = r.value FROM r WHERE tenant = '' AND name = 'order'`); err != nil {
		t.Fatal(err)
	}
	s.want(t, 201, "admin POST /v1/event-types", `{"name":"order","schema":{"type":"string"}}`)
	if got := versions("globex", ""); got != "1 map[type:string] admin" {
		t.Errorf("made again after a deletion by an earlier version: %s", got)
	}
	if err := s.store.EraseTenant(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	if n := s.rows(t, `SELECT count(*) FROM event_type_versions WHERE tenant = 'acme'`); n != 0 {
		t.Errorf("%d versions are left of a tenant that was erased", n)
	}
}

func TestOldVersionsGo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	et := &subscriptions.EventType{Name: "a"}
	if err := b.store.CreateEventType(t.Context(), et); err != nil {
		t.Fatal(err)
	}
	set := func(n, bytes int) {
		et.Schema = fmt.Appendf(nil, `{"title":"%d","description":"%s"}`, n, strings.Repeat("x", bytes))
		if err := b.store.UpdateEventType(t.Context(), et); err != nil {
			t.Fatal(err)
		}
	}
	fill := func(bytes int) {
		if _, err := b.db.ExecContext(t.Context(), `INSERT INTO event_type_versions (tenant, name, version, schema, at, actor_kind, actor_id, actor_name)
SELECT '', 'a', n, jsonb_build_object('title', repeat('x', $1)), now(), 'admin', '', '' FROM generate_series(1, 105) AS n`, bytes); err != nil {
			t.Fatal(err)
		}
		if _, err := b.db.ExecContext(t.Context(), `UPDATE event_types SET schema_version = 105`); err != nil {
			t.Fatal(err)
		}
	}
	fill(1)
	set(1, 1)
	if n := b.rows(t, `SELECT count(*) FROM event_type_versions WHERE version > 6`); n != 100 || et.SchemaVersion != 106 {
		t.Errorf("%d versions are kept, want 100; the last one is %d", n, et.SchemaVersion)
	}
	if _, err := b.db.ExecContext(t.Context(), `DELETE FROM event_type_versions`); err != nil {
		t.Fatal(err)
	}
	const large = 60_000
	fill(large)
	set(2, large)
	if n := b.rows(t, `SELECT count(*) FROM event_type_versions`); n != 1<<20/large {
		t.Errorf("%d large versions are kept, want %d", n, 1<<20/large)
	}
}

// A schema that refuses what the former one took is refused, with the places.
func TestBreakingSchemas(t *testing.T) {
	t.Parallel()
	s := serve(t)
	data := func(tenant, id, text string) *event.Event {
		return &event.Event{Tenant: tenant, Type: "order", ID: id, Data: []byte(text)}
	}
	const path = "/v1/event-types/order"
	s.want(t, 201, "admin POST /v1/event-types", `{"name":"order","sample":{"total":1},
		"schema":{"type":"object","properties":{"total":{"type":"number"},"note":{"type":"string"}}}}`)
	s.recent = someEvents{data("acme", "e1", `{"total":2,"rush":true}`), data("globex", "e2", `{"rush":"no"}`), data("acme", "e3", `"never fitted"`)}
	refused := func(patch, want string) {
		t.Helper()
		if r := s.want(t, 409, "admin PATCH "+path, patch); r.locations() != want {
			t.Errorf("%s: got %s, want %s", patch, r.text, want)
		}
	}
	refused(`{"schema":{"properties":{"total":{"type":"string"}}}}`, "body.sample.total body.schema/properties/total/type event.e1.data.total")
	refused(`{"schema":{"required":["total"]}}`, "body.schema/required event.e2.data.total")
	refused(`{"schema":{"properties":{"rush":{"type":"boolean"}}}}`, "event.e2.data.rush")
	refused(`{"schema":{"properties":{"rush":{"type":"boolean"}}},"sample":{"total":3}}`, "event.e2.data.rush")
	s.want(t, 200, "admin PATCH "+path, `{"schema":{"properties":{"other":{"type":"boolean"}}}}`)
	s.want(t, 200, "admin PATCH "+path, `{"schema":{"properties":{"note":{"type":["string","null"]}}}}`)
	// A schema that is not valid is that first of all, and so is a sample of the patch that does not fit.
	s.want(t, 422, "admin PATCH "+path, `{"schema":{"type":"objekt"}}`)
	s.want(t, 422, "admin PATCH "+path, `{"schema":{"title":"t"},"sample":{"total":"1"}}`)

	// Events of a tenant that has a type of its own do not count.
	s.want(t, 201, "admin POST /v1/event-types?tenant=globex", `{"name":"order"}`)
	s.want(t, 200, "admin PATCH "+path, `{"schema":{"properties":{"rush":{"type":"boolean"}}}}`)
	// The first schema is held against events alone.
	if r := s.want(t, 409, "admin PATCH "+path+"?tenant=globex", `{"schema":{"required":["total"]}}`); r.locations() != "event.e2.data.total" {
		t.Errorf("the first schema: %s", r.text)
	}
	s.want(t, 200, "admin PATCH "+path+"?tenant=globex", `{"schema":{"type":"object"}}`)

	// Who says so may break it; a sample that no longer fits goes.
	broken := s.want(t, 200, "admin PATCH "+path+"?breaking=true", `{"schema":{"properties":{"total":{"type":"string"}}}}`)
	if broken.body["sample"] != nil || broken.body["schema_version"] != 5.0 {
		t.Errorf("broken: %s", broken.text)
	}
	s.want(t, 422, "admin PATCH "+path+"?breaking=true", `{"schema":{"title":"u"},"sample":{"total":1}}`)
	s.want(t, 200, "admin PATCH "+path, `{"schema":null}`)
}

// A schema that was not enforced is held against the events that the type took, once it is to be.
func TestEnforcingASchemaIsBreaking(t *testing.T) {
	t.Parallel()
	s := serve(t)
	const path = "/v1/event-types/order"
	s.recent = someEvents{{Tenant: "acme", Type: "order", ID: "e1", Data: []byte(`{"n":1}`)}, {Tenant: "acme", Type: "order", ID: "e2", Data: []byte(`{"n":"x"}`)}}
	s.want(t, 201, "admin POST /v1/event-types", `{"name":"order","validation":"off","sample":{"n":2},"schema":{"properties":{"n":{"type":"integer"}}}}`)
	s.want(t, 200, "admin PATCH "+path, `{"validation":"warn"}`)
	// An event that fits neither schema does not count while neither is enforced.
	s.want(t, 200, "admin PATCH "+path, `{"schema":{"title":"Order"}}`)
	for _, patch := range []string{`{"validation":"enforce"}`, `{"validation":null}`, `{"validation":"enforce","schema":{"title":"Orders"}}`} {
		if r := s.want(t, 409, "admin PATCH "+path, patch); r.locations() != "event.e2.data.n" {
			t.Errorf("%s: got %s", patch, r.text)
		}
	}
	s.want(t, 200, "admin PATCH "+path+"?breaking=true", `{"validation":"enforce"}`)
	s.want(t, 200, "admin PATCH "+path, `{"validation":"enforce","description":"as before"}`)
	s.want(t, 200, "admin PATCH "+path, `{"validation":"off"}`)
	s.recent = s.recent[:1]
	if kept := s.want(t, 200, "admin PATCH "+path, `{"validation":"enforce"}`); kept.body["sample"] == nil || kept.body["schema_version"] != 2.0 {
		t.Errorf("got %s", kept.text)
	}
}
