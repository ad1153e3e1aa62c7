package passona

import (
	"fmt"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// Config is what an operator may set of Passona's API.
type Config struct {
	// EventType is what new webhooks subscribe to; empty: nothing, so that they receive only what names them as a target.
	EventType string `envconfig:"PASSONA_EVENT_TYPE" desc:"event type that webhooks made through Passona's API subscribe to, for publishers that name no targets (empty: none)"`
}

// Validate names entries that are not event types.
func (c Config) Validate() error {
	if c.EventType == "" {
		return nil
	}
	if err := subscriptions.ValidEventType(c.EventType); err != nil {
		return fmt.Errorf("FANFARE_PASSONA_EVENT_TYPE: %q %w", c.EventType, err)
	}
	return nil
}
