package leat

import (
	"fmt"
	"slices"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// Config is what an operator may set of Leat's API.
type Config struct {
	// EventTypes are offered beside the vendor's thirteen, such as voucher_deleted.
	EventTypes []string `envconfig:"LEAT_EVENT_TYPES" desc:"event types that Leat's API offers beside the vendor's thirteen, e.g. voucher_deleted"`
}

// Validate names entries that are not event types.
func (c Config) Validate() error {
	for _, name := range c.EventTypes {
		if err := subscriptions.ValidEventType(name); err != nil {
			return fmt.Errorf("FANFARE_LEAT_EVENT_TYPES: %q %w", name, err)
		}
	}
	return nil
}

// eventTypes are those that Leat documents.
var eventTypes = []string{
	"contact_created", "contact_updated", "credit_reception_created", "prepaid_transaction_created",
	"giftcard_transaction_created", "voucher_created", "voucher_updated", "voucher_redeemed",
	"form_submission_completed", "referral_completed", "contact_identifier_created",
	"reward_updated", "promotion_updated",
}

// contactUpdated is the type that matches by changed attributes.
const contactUpdated = "contact_updated"

// offers says whether a client may subscribe to the type.
func (c Config) offers(eventType string) bool {
	return slices.Contains(eventTypes, eventType) || slices.Contains(c.EventTypes, eventType)
}
