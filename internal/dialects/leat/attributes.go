package leat

import (
	"encoding/json"
	"maps"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// attributesKey holds, among a subscription's metadata, the attributes of types that do not match by them.
const attributesKey = "leat_attributes"

// setAttributes keeps the attributes that a client sent. For contact_updated they say which changes are
// wanted; for other types Leat shows them again, and they match nothing.
func setAttributes(s *subscriptions.Subscription, attributes []string) {
	if s.EventTypes[0] == contactUpdated {
		s.Changed = attributes
		return
	}
	s.Metadata = maps.Clone(s.Metadata)
	delete(s.Metadata, attributesKey)
	if len(attributes) == 0 {
		return
	}
	text, err := json.Marshal(attributes)
	if err != nil {
		panic(err) // Texts cannot fail.
	}
	if s.Metadata == nil {
		s.Metadata = map[string]string{}
	}
	s.Metadata[attributesKey] = string(text)
}

// attributes are what setAttributes kept.
func attributes(s *subscriptions.Subscription) []string {
	if s.EventTypes[0] == contactUpdated {
		return s.Changed
	}
	var kept []string
	if json.Unmarshal([]byte(s.Metadata[attributesKey]), &kept) != nil {
		return nil // there are none
	}
	return kept
}
