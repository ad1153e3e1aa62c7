package babelfor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/dialects"
	"github.com/fanfarehq/fanfare/subscriptions"
)

const contentType = "application/json; charset=utf-8"

// dateLayout has whole seconds and Z.
const dateLayout = "2006-01-02T15:04:05Z"

// date is a time as the vendor prints it; the zero one is null.
type date struct{ time.Time }

// MarshalJSON prints the date in UTC.
func (d date) MarshalJSON() ([]byte, error) {
	if d.IsZero() {
		return []byte("null"), nil
	}
	return []byte(`"` + d.UTC().Format(dateLayout) + `"`), nil
}

// value is the date as filters and sorts compare it: to the digit that is printed.
func (d date) value() any {
	if d.IsZero() {
		return nil
	}
	return d.UTC().Truncate(time.Second)
}

// subscription is the vendor's JSON.
type subscription struct {
	uuid          uuid.UUID
	ID            int32   `json:"id"`
	Name          string  `json:"name"`
	EventType     string  `json:"eventType"`
	URL           string  `json:"url"`
	Secret        *string `json:"secret"`
	MaxRetryCount int     `json:"maxRetryCount"`
	IsActive      bool    `json:"isActive"`
	UserID        string  `json:"userId"`
	Headers       *string `json:"headers"` // the map as JSON in a string
	CreatedAt     date    `json:"createdAt"`
	UpdatedAt     date    `json:"updatedAt"`
	WebhookEvents []event `json:"webhookEvents"`
}

func show(s *subscriptions.Subscription) subscription {
	shown := subscription{
		uuid:          s.ID,
		ID:            s.Number,
		Name:          s.Name,
		EventType:     strings.Join(s.EventTypes, ","),
		URL:           s.URL,
		IsActive:      s.Status == subscriptions.Active,
		UserID:        s.Metadata[userKey],
		CreatedAt:     date{s.CreatedAt},
		UpdatedAt:     date{s.UpdatedAt},
		WebhookEvents: []event{},
	}
	if len(s.Secrets) > 0 {
		shown.Secret = &s.Secrets[0].Value
	}
	if s.Retry.MaxRetries != nil {
		shown.MaxRetryCount = *s.Retry.MaxRetries
	}
	if len(s.Headers) > 0 {
		if text, err := encode(s.Headers); err == nil { // a map of texts always is JSON
			headers := string(text)
			shown.Headers = &headers
		}
	}
	return shown
}

// encode writes JSON in which angle brackets stay as they are.
func encode(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, fmt.Errorf("encode %T: %w", value, err)
	}
	return bytes.TrimSpace(text.Bytes()), nil
}

// readHeaders accepts the map that the vendor takes, and the string that it prints.
func readHeaders(in dialects.Input) (map[string]string, bool) {
	text, ok := in["headers"].(string)
	if !ok {
		return in.TextMap("headers")
	}
	if text == "" {
		return nil, true
	}
	var headers map[string]string
	err := json.Unmarshal([]byte(text), &headers)
	return headers, err == nil
}

var subscriptionFields = fields[subscription]{
	"id":            {name: "id", kind: intKind, get: func(s *subscription) any { return int64(s.ID) }},
	"name":          {name: "name", kind: textKind, get: func(s *subscription) any { return s.Name }},
	"eventtype":     {name: "eventType", kind: textKind, get: func(s *subscription) any { return s.EventType }},
	"url":           {name: "url", kind: textKind, get: func(s *subscription) any { return s.URL }},
	"maxretrycount": {name: "maxRetryCount", kind: intKind, get: func(s *subscription) any { return int64(s.MaxRetryCount) }},
	"isactive":      {name: "isActive", kind: boolKind, get: func(s *subscription) any { return s.IsActive }},
	"userid":        {name: "userId", kind: textKind, get: func(s *subscription) any { return s.UserID }},
	"headers":       {name: "headers", kind: textKind, get: func(s *subscription) any { return text(s.Headers) }},
	"createdat":     {name: "createdAt", kind: timeKind, get: func(s *subscription) any { return s.CreatedAt.value() }},
	"updatedat":     {name: "updatedAt", kind: timeKind, get: func(s *subscription) any { return s.UpdatedAt.value() }},
	// These can be selected, and nothing else.
	"secret":        {name: "secret"},
	"webhookevents": {name: "webhookEvents"},
}

// text is the string, or nil for null.
func text(s *string) any {
	if s == nil {
		return nil
	}
	return *s
}

// selectKeys leaves of each row only the keys that were asked for, in that order.
func selectKeys[T any](rows []T, keys []string) (any, error) {
	if keys == nil {
		return rows, nil
	}
	selected := make([]json.RawMessage, len(rows))
	for i := range rows {
		whole, err := encode(rows[i])
		if err != nil {
			return nil, err
		}
		var all map[string]json.RawMessage
		if err := json.Unmarshal(whole, &all); err != nil {
			return nil, fmt.Errorf("decode row: %w", err)
		}
		row := []byte{'{'}
		for n, key := range keys {
			if n > 0 {
				row = append(row, ',')
			}
			row = append(append(append(row, '"'), key...), `":`...) // keys are plain
			row = append(row, all[key]...)
		}
		selected[i] = append(row, '}')
	}
	return selected, nil
}

// The vendor's answers, with their keys in its order.
type (
	envelope struct {
		Success bool   `json:"success"`
		Message string `json:"message"`
	}
	subscriptionsAnswer struct {
		Subscriptions any `json:"subscriptions"`
		Total         int `json:"totalSubscriptionsCount"`
		envelope
	}
	subscriptionAnswer struct {
		Subscription subscription `json:"subscription"`
		envelope
	}
	eventTypesAnswer struct {
		EventTypes []eventType `json:"eventTypes"`
		envelope
	}
	testAnswer struct {
		envelope
		EventID int32 `json:"eventId"`
	}
	eventsAnswer struct {
		Events any `json:"events"`
		Total  int `json:"totalEventsCount"`
		envelope
	}
)

// done is what every success says.
var done = envelope{Success: true}

// reply writes a success, which the vendor always answers with 200.
func reply(c *dialects.Call, answer any) {
	dialects.Reply(c.W, http.StatusOK, contentType, answer)
}

// words are the vendor's.
func words() dialects.Words {
	names := map[string]string{"event_types": "eventType", "retry": "maxRetryCount"}
	return dialects.Words{
		Missing: func() *dialects.Failure { return dialects.NotFound("Subscription not found.") },
		Field: func(path []string) string {
			if name, ok := names[path[0]]; ok {
				return name
			}
			return strings.Join(path, ".")
		},
	}
}

// fail says all that is wrong in one message, with 400: the vendor knows no 422 and no fields of errors.
func fail(w http.ResponseWriter, f *dialects.Failure) {
	status, message := f.Status, f.Message
	if status == http.StatusUnprocessableEntity {
		status = http.StatusBadRequest
	}
	if len(f.Fields) > 0 {
		messages := make([]string, len(f.Fields))
		for i, field := range f.Fields {
			messages[i] = field.Message
		}
		message = strings.Join(messages, " ")
	}
	dialects.Reply(w, status, contentType, envelope{Message: message})
}
