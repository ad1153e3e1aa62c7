package subscriptions

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// row is a subscription as the database has it, lists and maps in their text form. The store turns it into a
// Subscription at once, the Directory keeps it and does so on demand: a million of them must fit in memory.
type row struct {
	id       uuid.UUID
	number   int32
	tenant   string
	name     string
	url      string
	types    string // joined by listSeparator
	resource string
	changed  string // joined by listSeparator
	filter   string
	sealed   []byte
	status   Status
	created  time.Time
	updated  time.Time
	deleted  bool
	revision int64
	settings settings
}

// settings are what most subscriptions of a tenant have in common, so the Directory holds each combination once.
type settings struct {
	dialect, description, headers, format, schedule, extra string
	disabledReason, version, metadata, scopes              string
	maxRetries, maxInFlight, rateLimit                     int32 // maxRetries is -1 where none is set
	timeoutMS, ratePerMS                                   int64
}

// listSeparator joins lists within a row. No entry may hold it: validation refuses control characters.
const listSeparator = "\x1f"

// columns are those of a row, in the order of row.into.
const columns = `id, number, tenant, name, url, array_to_string(event_types, E'\x1f'), resource_id,
	array_to_string(changed, E'\x1f'), filter, secrets, status, created_at, updated_at, deleted, revision,
	dialect, description, headers, payload_format, array_to_string(retry_schedule, ','), settings,
	disabled_reason, version, metadata, array_to_string(scopes, E'\x1f'),
	coalesce(max_retries, -1), max_in_flight, coalesce(rate_limit, 0), timeout_ms, coalesce(rate_per_ms, 0)`

func (r *row) into() []any {
	s := &r.settings
	return []any{
		&r.id, &r.number, &r.tenant, &r.name, &r.url, &r.types, &r.resource,
		&r.changed, &r.filter, &r.sealed, &r.status, &r.created, &r.updated, &r.deleted, &r.revision,
		&s.dialect, &s.description, &s.headers, &s.format, &s.schedule, &s.extra,
		&s.disabledReason, &s.version, &s.metadata, &s.scopes,
		&s.maxRetries, &s.maxInFlight, &s.rateLimit, &s.timeoutMS, &s.ratePerMS,
	}
}

// extra are the settings that have no column of their own.
type extra struct {
	Signing     Signing   `json:"signing,omitempty"` // empty is SignHMAC
	ContentType string    `json:"content_type,omitempty"`
	Ordering    *Ordering `json:"ordering,omitempty"`
}

// list takes a joined list apart; an empty one is nil.
func list(joined string) []string {
	if joined == "" {
		return nil
	}
	return strings.Split(joined, listSeparator)
}

// decoded are settings in the form that a Subscription has them in. Subscriptions may share them.
type decoded struct {
	settings
	headerMap, metadataMap map[string]string
	delays                 []time.Duration
	scopeList              []string
	signing                Signing
	ordering               *Ordering
	contentType            string
}

func (c *settings) decode() (*decoded, error) {
	d := &decoded{settings: *c, scopeList: list(c.scopes)}
	var x extra
	for _, field := range []struct {
		name, text string
		into       any
	}{{"headers", c.headers, &d.headerMap}, {"metadata", c.metadata, &d.metadataMap}, {"settings", c.extra, &x}} {
		if field.text == "{}" {
			continue
		}
		if err := json.Unmarshal([]byte(field.text), field.into); err != nil {
			return nil, fmt.Errorf("read %s: %w", field.name, err)
		}
	}
	d.signing, d.contentType, d.ordering = x.Signing, x.ContentType, x.Ordering
	setDefault(&d.signing, SignHMAC)
	if c.schedule == "" {
		return d, nil
	}
	for text := range strings.SplitSeq(c.schedule, ",") {
		ms, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read schedule: %w", err)
		}
		d.delays = append(d.delays, time.Duration(ms)*time.Millisecond)
	}
	return d, nil
}

// subscription makes a Subscription of the row and its decoded settings, without its secrets.
func (r *row) subscription(d *decoded) *Subscription {
	c := &d.settings
	s := &Subscription{
		ID: r.id, Number: r.number, Tenant: r.tenant, Dialect: c.dialect,
		Name: r.name, Description: c.description, URL: r.url,
		EventTypes: list(r.types), ResourceID: r.resource, Changed: list(r.changed), Filter: r.filter,
		Headers: d.headerMap, PayloadFormat: c.format, ContentType: d.contentType, Retry: Retry{Schedule: d.delays},
		Timeout: time.Duration(c.timeoutMS) * time.Millisecond, MaxInFlight: int(c.maxInFlight), Signing: d.signing, Ordering: d.ordering,
		Status: r.status, DisabledReason: c.disabledReason, Version: c.version, Metadata: d.metadataMap, Scopes: d.scopeList,
		CreatedAt: r.created.UTC(), UpdatedAt: r.updated.UTC(), Deleted: r.deleted, Revision: r.revision,
	}
	if c.maxRetries >= 0 {
		s.Retry.MaxRetries = new(int(c.maxRetries))
	}
	if c.rateLimit > 0 {
		s.RateLimit = &RateLimit{Limit: int(c.rateLimit), Per: time.Duration(c.ratePerMS) * time.Millisecond}
	}
	return s
}

// rowOf makes the row of a Subscription, without its secrets.
func rowOf(s *Subscription) *row {
	r := &row{
		id: s.ID, number: s.Number, tenant: s.Tenant, name: s.Name, url: s.URL,
		types: strings.Join(s.EventTypes, listSeparator), resource: s.ResourceID,
		changed: strings.Join(s.Changed, listSeparator), filter: s.Filter, status: s.Status,
		created: s.CreatedAt, updated: s.UpdatedAt, deleted: s.Deleted, revision: s.Revision,
	}
	r.settings = settings{
		dialect: s.Dialect, description: s.Description, headers: jsonObject(s.Headers), format: s.PayloadFormat,
		disabledReason: s.DisabledReason, version: s.Version, metadata: jsonObject(s.Metadata),
		scopes: strings.Join(s.Scopes, listSeparator), maxRetries: -1, maxInFlight: int32(s.MaxInFlight),
		timeoutMS: s.Timeout.Milliseconds(), extra: extraOf(s),
	}
	if s.Retry.MaxRetries != nil {
		r.settings.maxRetries = int32(*s.Retry.MaxRetries)
	}
	if s.RateLimit != nil {
		r.settings.rateLimit, r.settings.ratePerMS = int32(s.RateLimit.Limit), s.RateLimit.Per.Milliseconds()
	}
	delays := make([]string, len(s.Retry.Schedule))
	for i, d := range s.Retry.Schedule {
		delays[i] = strconv.FormatInt(d.Milliseconds(), 10)
	}
	r.settings.schedule = strings.Join(delays, ",")
	return r
}

// extraOf writes the fields without a column of their own, {} if none is set.
func extraOf(s *Subscription) string {
	x := extra{ContentType: s.ContentType, Ordering: s.Ordering}
	if s.Signing != SignHMAC {
		x.Signing = s.Signing
	}
	text, err := json.Marshal(x)
	if err != nil { // Texts cannot fail.
		panic(err)
	}
	return string(text)
}

// jsonObject writes a map as a JSON object, {} where there is none.
func jsonObject(m map[string]string) string {
	if len(m) == 0 {
		return "{}"
	}
	text, err := json.Marshal(m)
	if err != nil { // Texts cannot fail.
		panic(err)
	}
	return string(text)
}
