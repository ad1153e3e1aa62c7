package leat

import (
	"net/http"
	"strings"

	"github.com/fanfarehq/fanfare/internal/dialects"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// dateLayout is PHP's DateTimeInterface::ATOM in UTC, which the SDK parses and takes no fraction of a second in.
const dateLayout = "2006-01-02T15:04:05+00:00"

const (
	active   = "ACTIVE"
	inactive = "INACTIVE"
)

// subscription is Leat's JSON. Properties are left out of lists where there are none.
type subscription struct {
	UUID       string    `json:"uuid"`
	Name       string    `json:"name"`
	EventType  string    `json:"event_type"`
	URL        string    `json:"url"`
	Properties *[]string `json:"properties,omitempty"`
	Status     string    `json:"status"`
	Version    string    `json:"version"`
	CreatedAt  string    `json:"created_at"`
}

func show(s *subscriptions.Subscription, properties bool) subscription {
	shown := subscription{
		UUID:      s.ID.String(),
		Name:      s.Name,
		EventType: s.EventTypes[0],
		URL:       s.URL,
		Status:    statusOf(s),
		Version:   subscriptions.DefaultVersion,
		CreatedAt: s.CreatedAt.UTC().Format(dateLayout),
	}
	if properties {
		list := append([]string{}, attributes(s)...)
		shown.Properties = &list
	}
	return shown
}

// statusOf is INACTIVE for what receives nothing now, be it disabled or paused through the native API.
func statusOf(s *subscriptions.Subscription) string {
	if s.Status == subscriptions.Active {
		return active
	}
	return inactive
}

// reply writes a success: the SDK demands data, and meta is a list.
func reply(c *dialects.Call, data any) {
	dialects.Reply(c.W, http.StatusOK, "application/json", struct {
		Data any   `json:"data"`
		Meta []any `json:"meta"`
	}{data, []any{}})
}

// words are Leat's, in Laravel's manner: attributes.0 is the first attribute.
func words() dialects.Words {
	names := map[string]string{"event_types": "event_type", "changed": "attributes", "metadata": "attributes"}
	return dialects.Words{
		Missing: func() *dialects.Failure { return dialects.NotFound(notFoundMessage) },
		Field: func(path []string) string {
			name, renamed := names[path[0]]
			switch {
			case !renamed:
				return strings.Join(path, ".")
			case path[0] == "changed" && len(path) > 1:
				return name + "." + path[1]
			}
			return name
		},
	}
}

// The codes of Leat. Where Leat has none, the code is the HTTP status.
const (
	codeInvalid  = 1003
	codeNotFound = 80300
)

// failure is Leat's JSON of a failure. The SDK demands the first three keys, and their types.
type failure struct {
	Message    string              `json:"message"`
	Code       int                 `json:"code"`
	StatusCode int                 `json:"status_code"`
	Errors     map[string][]string `json:"errors,omitempty"`
	Error      string              `json:"error,omitempty"` // of the token endpoint
}

// notFoundMessage tells a missing subscription from a missing route, which have the same status.
const notFoundMessage = "Webhook subscription not found."

func fail(w http.ResponseWriter, f *dialects.Failure) {
	out := failure{Message: f.Message, Code: f.Status, StatusCode: f.Status, Error: f.Code}
	switch {
	case f.Status == http.StatusUnprocessableEntity:
		out.Message, out.Code = "Invalid input.", codeInvalid
		for _, e := range f.Fields {
			if out.Errors == nil {
				out.Errors = map[string][]string{}
			}
			out.Errors[e.Field] = append(out.Errors[e.Field], e.Message)
		}
	case f.Status == http.StatusNotFound && f.Message == notFoundMessage:
		out.Code = codeNotFound
	case f.Status == http.StatusServiceUnavailable:
		// Leat's SDK takes 503 for announced maintenance.
		out.Code, out.StatusCode = http.StatusInternalServerError, http.StatusInternalServerError
	}
	dialects.Reply(w, out.StatusCode, "application/json", out)
}

func required(name string) dialects.FieldError {
	return dialects.FieldError{Field: name, Message: "The " + name + " field is required."}
}

func invalidChoice(name string) dialects.FieldError {
	return dialects.FieldError{Field: name, Message: "The selected " + name + " is invalid."}
}
