package kajabi

import (
	"context"
	"embed"
	"errors"
	"maps"
	"slices"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// eventType is one of Kajabi's: its meaning, and the scopes that a key needs to subscribe to it.
type eventType struct {
	description string
	scopes      []string
}

var events = map[string]eventType{
	"purchase":          {"Customer makes a purchase", []string{"view:purchases"}},
	"payment_succeeded": {"Payment transaction completes successfully", []string{"view:transactions"}},
	"order_created":     {"New order is created", []string{"view:transactions", "view:orders"}},
	"form_submission":   {"Someone submits a form", []string{"view:form_submissions"}},
	"tag_added":         {"Tag is added to a contact", []string{"view:contacts"}},
	"tag_removed":       {"Tag is removed from a contact", []string{"view:contacts"}},
}

//go:embed samples/*.json
var samples embed.FS

// Owns says of an event type that it is Kajabi's.
func Owns(eventType string) bool {
	_, ok := events[eventType]
	return ok
}

// sampleOf is what a payload of the event looks like: a list of JSON:API resources.
func sampleOf(event string) ([]byte, error) { return samples.ReadFile("samples/" + event + ".json") }

// Declare makes Kajabi's events event types of every tenant, with their scopes and samples: what subscribes to one
// through another API needs its scopes as well. One that is there stays as it is, since an operator may have
// changed it.
func Declare(ctx context.Context, store *subscriptions.Store) error {
	for _, name := range slices.Sorted(maps.Keys(events)) {
		sample, err := sampleOf(name)
		if err != nil {
			return err
		}
		brought := &subscriptions.EventType{
			Name: name, Description: events[name].description, Scopes: events[name].scopes, Sample: sample, Dialect: subscriptions.Kajabi,
		}
		if err = store.CreateEventType(ctx, brought); errors.Is(err, subscriptions.ErrExists) {
			err = store.AdoptEventType(ctx, brought)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
