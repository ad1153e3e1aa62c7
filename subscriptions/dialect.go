package subscriptions

import (
	"maps"
	"slices"
	"strings"
)

// guardDialect refuses changes of what the vendor of a subscription's dialect fixes: its clients count on it. The
// error is an *Invalid.
func guardDialect(before, after *Subscription) error {
	if before.Dialect == Native {
		return nil
	}
	changed := map[string]bool{
		"url":            before.URL != after.URL,
		"event_types":    !slices.Equal(before.EventTypes, after.EventTypes),
		"resource_id":    before.ResourceID != after.ResourceID,
		"retry.schedule": !slices.Equal(before.Retry.Schedule, after.Retry.Schedule),
		"retry":          presentRetry(before.Retry).MaxRetries != presentRetry(after.Retry).MaxRetries,
		"payload_format": before.PayloadFormat != after.PayloadFormat,
		"content_type":   before.ContentType != after.ContentType,
		"metadata":       !maps.Equal(vendorsOwn(before), vendorsOwn(after)),
	}
	bad := &Invalid{}
	for _, field := range fixedFields[before.Dialect] {
		if changed[field] {
			bad.addf(field, "is fixed by the dialect %s", before.Dialect)
		}
	}
	return bad.orNil()
}

// fixedFields are what each vendor does not let its own clients change, and what only the dialect can keep right.
var fixedFields = map[string][]string{
	Leat:     {"event_types", "payload_format", "content_type", "metadata"},
	Kajabi:   {"url", "event_types", "resource_id", "payload_format", "content_type", "metadata"},
	Passona:  {"event_types", "retry", "retry.schedule", "payload_format", "content_type", "metadata"},
	Babelfor: {"retry.schedule", "payload_format", "content_type", "metadata"},
}

// vendorsOwn are the metadata that a dialect keeps for itself.
func vendorsOwn(s *Subscription) map[string]string {
	own := map[string]string{}
	for key, text := range s.Metadata {
		if strings.HasPrefix(key, s.Dialect+"_") {
			own[key] = text
		}
	}
	return own
}
