package subscriptions

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"cel.dev/cel-go/common/types"
	lru "github.com/hashicorp/golang-lru/v2"
)

// Ordering asks that deliveries of the same key are made one after the other, in the order in which their events were
// accepted.
type Ordering struct {
	// Key is a CEL expression over event. Its value, as text, is the key; an event for which it has none (an error, an
	// absent attribute, null or "") is sent in no order.
	Key string `json:"key"`
	// OnDead says what becomes of the deliveries behind one that is given up.
	OnDead OnDead `json:"on_dead"`
}

// OnDead is what becomes of the deliveries behind one that is given up.
type OnDead string

// What becomes of the deliveries behind a dead one.
const (
	// ContinueOnDead makes the next one.
	ContinueOnDead OnDead = "continue"
	// StopOnDead makes none until the dead one was sent with success after all, or was passed over.
	StopOnDead OnDead = "stop"
)

// MaxOrderingKey bounds the text of a key, in bytes.
const MaxOrderingKey = 1024

// keyTypes are what the expression of a key may be. Dyn is what an event's data is.
var keyTypes = []types.Kind{
	types.DynKind, types.StringKind, types.IntKind, types.UintKind, types.DoubleKind, types.BoolKind, types.TimestampKind, types.DurationKind,
}

// Key is a compiled expression that gives an event its place in an order. It is safe for concurrent use.
type Key struct{ expression Filter }

// CompileKey parses, checks and plans the expression of a key, within the bounds of a filter. Its error is a *FilterError.
func CompileKey(source string) (*Key, error) {
	f, is, err := compile(source)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(keyTypes, is.Kind()) {
		return nil, &FilterError{Line: 1, Column: 1, Message: fmt.Sprintf("must be a text, a number, a time or boolean, but is %s", is)}
	}
	return &Key{*f}, nil
}

// errNoKey says that an event has no key.
var errNoKey = errors.New("the value is no key")

// Of returns the key of an event; an error says that it has none.
func (k *Key) Of(e *MatchEvent) (string, error) {
	v, err := k.expression.value(e)
	if err != nil {
		return "", err
	}
	text := ""
	switch v := v.(type) {
	case types.String:
		text = string(v)
	case types.Int:
		text = strconv.FormatInt(int64(v), 10)
	case types.Uint:
		text = strconv.FormatUint(uint64(v), 10)
	case types.Double:
		text = strconv.FormatFloat(float64(v), 'f', -1, 64)
	case *wide:
		text = v.text
	case types.Bool:
		text = strconv.FormatBool(bool(v))
	case types.Timestamp:
		text = v.UTC().Format(time.RFC3339Nano)
	case types.Duration:
		text = v.Duration.String()
	}
	if text == "" || len(text) > MaxOrderingKey {
		return "", errNoKey
	}
	return text, nil
}

func validateOrdering(o *Ordering, bad *Invalid) {
	if o == nil {
		return
	}
	_, err := CompileKey(o.Key)
	bad.add("ordering.key", err)
	if o.OnDead != ContinueOnDead && o.OnDead != StopOnDead {
		bad.addf("ordering.on_dead", "must be %s or %s", ContinueOnDead, StopOnDead)
	}
}

// orderingKey returns the expression of the key among settings; empty where no order is asked for. What cannot be
// read is told when the subscription is made of it.
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
	key *Key
	err error
}

// keptKeys is how many compiled keys a Directory keeps.
const keptKeys = 10_000

// OrderingKey returns the key of an event for a subscription; false where the subscription asks for no order, is not
// known, or the event has no key.
func (d *Directory) OrderingKey(e *MatchEvent, s *Subscription) (string, bool) {
	if s.Ordering == nil {
		return "", false
	}
	return d.keyOf(e, s.Ordering.Key)
}

// keyOf evaluates the expression of a key.
func (d *Directory) keyOf(e *MatchEvent, source string) (string, bool) {
	c, ok := d.keys.Get(source)
	if !ok {
		c.key, c.err = CompileKey(source)
		d.keys.Add(source, c)
	}
	if c.err != nil {
		return "", false
	}
	key, err := c.key.Of(e)
	return key, err == nil
}
