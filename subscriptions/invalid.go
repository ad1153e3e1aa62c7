package subscriptions

import (
	"fmt"
	"strings"
)

// Invalid lists the errors of a subscription or event type, field by field.
type Invalid struct{ Faults []Fault }

// Fault is one thing that is wrong.
type Fault struct {
	Field   string // as in the native API: url, event_types[1], retry.schedule[0], headers.X-Env
	Message string // never holds the value of a secret or header
}

func (i *Invalid) Error() string {
	texts := make([]string, len(i.Faults))
	for n, f := range i.Faults {
		texts[n] = f.Field + " " + f.Message
	}
	return "invalid: " + strings.Join(texts, "; ")
}

// add notes a fault if there is one.
func (i *Invalid) add(field string, err error) {
	if err != nil {
		i.Faults = append(i.Faults, Fault{field, err.Error()})
	}
}

func (i *Invalid) addf(field, format string, args ...any) {
	i.Faults = append(i.Faults, Fault{field, fmt.Sprintf(format, args...)})
}

// orNil is the error, or nil if nothing is wrong.
func (i *Invalid) orNil() error {
	if len(i.Faults) == 0 {
		return nil
	}
	return i
}

// ScopeError refuses a subscription to an event type whose scopes the caller lacks.
type ScopeError struct{ EventType, Scope string }

func (e *ScopeError) Error() string {
	return fmt.Sprintf("events of type %s need the scope %s", e.EventType, e.Scope)
}
