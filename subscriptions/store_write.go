package subscriptions

import (
	"database/sql"
	"reflect"
	"slices"

	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/internal/changes"
)

// written are the columns that Create and Update both write, writtenValues their places after id and tenant.
const (
	written = `name, description, url, event_types, resource_id, changed, filter, headers, payload_format,
	retry_schedule, max_retries, timeout_ms, max_in_flight, rate_limit, rate_per_ms, secrets, status,
	disabled_reason, version, metadata, scopes, updated_at`
	writtenValues = `$3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24`
	updatedValues = `$3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, coalesce($18, secrets), $19, $20, $21, $22, $23, $24`
)

// insertSubscription and updateSubscription take the arguments of a change after their own.
var insertSubscription = nextRevision + `, u AS (INSERT INTO subscriptions (id, tenant, ` + written + `, settings, dialect, created_at, bytes, revision)
SELECT $1, $2, ` + writtenValues + `, $25, $26, $27, $28, r.value FROM r RETURNING number, revision),
c AS (` + changes.Insert(29, "jsonb_build_object('number', u.number)") + `) SELECT number, revision FROM u`

// Settings are merged, so that those of another version of Fanfare stay. What is left out where there is none goes first.
var updateSubscription = nextRevision + `, u AS (UPDATE subscriptions
SET (` + written + `, settings, bytes, revision) = (` + updatedValues + `, subscriptions.settings - 'ordering' - 'content_type' || $25,
	$27 + octet_length(coalesce($18, secrets)), r.value) FROM r
WHERE id = $1 AND tenant = $2 AND subscriptions.revision = $26 AND NOT deleted RETURNING subscriptions.revision),
c AS (` + changes.Insert(28, "") + `) SELECT revision FROM u`

// writtenArgs are the arguments of both statements, up to settings. A nil sealed leaves the sealed values as they are.
func writtenArgs(s *Subscription, sealed []byte) []any {
	r := rowOf(s)
	c := &r.settings
	url := s.URL
	if sealed != nil { // Then headers and the whole URL are sealed.
		url, c.headers = maskURL(s.URL), "{}"
	}
	delays := make(pq.Int64Array, len(s.Retry.Schedule))
	for i, d := range s.Retry.Schedule {
		delays[i] = d.Milliseconds()
	}
	return []any{
		s.ID, s.Tenant, s.Name, s.Description, url, array(s.EventTypes), s.ResourceID, array(s.Changed), s.Filter,
		c.headers, s.PayloadFormat, delays, sql.Null[int32]{V: c.maxRetries, Valid: c.maxRetries >= 0},
		c.timeoutMS, c.maxInFlight, sql.Null[int32]{V: c.rateLimit, Valid: s.RateLimit != nil},
		sql.Null[int64]{V: c.ratePerMS, Valid: s.RateLimit != nil}, sealed, string(s.Status), s.DisabledReason,
		s.Version, c.metadata, array(s.Scopes), s.UpdatedAt, c.extra,
	}
}

// stored reports whether saving sub would write what before, as it was read, has already.
func stored(before, sub *Subscription) bool {
	return (before.Err == nil) == (sub.Err == nil) && reflect.DeepEqual(writtenArgs(before, nil), writtenArgs(sub, nil)) &&
		reflect.DeepEqual(before.Secrets, sub.Secrets) && reflect.DeepEqual(before.Auth, sub.Auth) &&
		reflect.DeepEqual(before.Certificate, sub.Certificate)
}

// array is never NULL.
func array(list []string) pq.StringArray {
	if list == nil {
		return pq.StringArray{}
	}
	return list
}

// added are the event types of after that before did not have.
func added(before, after []string) []string {
	var fresh []string
	for _, t := range after {
		if !slices.Contains(before, t) {
			fresh = append(fresh, t)
		}
	}
	return fresh
}
