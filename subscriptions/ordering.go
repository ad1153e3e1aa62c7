package subscriptions

import (
	"encoding/json"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions/filter"
)

// Ordering asks that deliveries of the same key are made one after the other, in the order in which their events were
// accepted.
type Ordering struct {
	// Key is a CEL expression over event. Its value, as text, is the key; an event for which it has none (an error, an
	// absent attribute, null or "") is sent in no order.
	Key string `json:"key"`
	// OnDead decides whether a key's later deliveries go on after a dead one.
	OnDead OnDead `json:"on_dead"`
}

// OnDead decides whether a key's later deliveries go on after a dead one.
type OnDead string

// The values of OnDead.
const (
	// ContinueOnDead sends the next delivery.
	ContinueOnDead OnDead = "continue"
	// StopOnDead blocks the key until the dead delivery succeeds in a retry or is skipped.
	StopOnDead OnDead = "stop"
)

func validateOrdering(o *Ordering, bad *Invalid) {
	if o == nil {
		return
	}
	_, err := filter.CompileKey(o.Key)
	bad.add("ordering.key", err)
	if o.OnDead != ContinueOnDead && o.OnDead != StopOnDead {
		bad.addf("ordering.on_dead", "must be %s or %s", ContinueOnDead, StopOnDead)
	}
}

// orderingKey returns the expression of the ordering key; empty for an unordered subscription. Settings that cannot be
// read are reported when the subscription is decoded.
func (c *settings) orderingKey() string {
	if c.extra == "{}" {
		return ""
	}
	var x extra
	if err := json.Unmarshal([]byte(c.extra), &x); err != nil || x.Ordering == nil {
		return ""
	}
	return x.Ordering.Key
}

// keyCache holds compiled keys by their source.
type keyCache = lru.Cache[string, compiledKey]

type compiledKey struct {
	key *filter.Key
	err error
}

// keptKeys bounds the compiled keys that a Directory keeps.
const keptKeys = 10_000

// OrderingKey returns the key of an event for a subscription; false if the subscription is unordered or the event has no
// key.
func (d *Directory) OrderingKey(e *event.Event, s *Subscription) (string, bool) {
	if s.Ordering == nil {
		return "", false
	}
	return d.keyOf(&filter.Input{Event: e}, s.Ordering.Key)
}

// KeyOf returns the ordering key that an expression gives an event; false if there is none. A later version may have
// stored an expression that this one cannot compile: it gives no key.
func KeyOf(source string, e *event.Event) (string, bool) {
	k, err := filter.CompileKey(source)
	if err != nil {
		return "", false
	}
	key, err := k.Of(&filter.Input{Event: e})
	return key, err == nil
}

// keyOf is KeyOf with a cache of compiled expressions.
func (d *Directory) keyOf(in *filter.Input, source string) (string, bool) {
	c, ok := d.keys.Get(source)
	if !ok {
		c.key, c.err = filter.CompileKey(source)
		d.keys.Add(source, c)
	}
	if c.err != nil {
		return "", false
	}
	key, err := c.key.Of(in)
	return key, err == nil
}
