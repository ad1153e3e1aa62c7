package deliver

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// wireVersion is the version of the messages in TASKS and ATTEMPTS and of stored events. Fields may be added
// within a version; a reader ignores those that it does not know.
const wireVersion = 1

// The bounds of what is read. They are far beyond what is sent, and keep a poisonous message from costing more
// memory than its bytes.
const (
	maxWireItems  = 4096 // tasks, records or targets in one list
	maxWireFields = 64
	maxWireDepth  = 8
)

var (
	errVersion = errors.New("unknown version")
	errEmpty   = errors.New("nothing in it")
)

// codec reads and writes CBOR. The encoding is deterministic, so that golden files can hold it.
type codec struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

// packed is what all messages look like: a version and items that are encoded already.
type packed struct {
	_       struct{} `cbor:",toarray"`
	Version int
	Items   []cbor.RawMessage
}

func newCodec() (codec, error) {
	opts := cbor.CoreDetEncOptions()
	opts.Time = cbor.TimeRFC3339NanoUTC
	enc, err := opts.EncMode()
	if err != nil {
		return codec{}, fmt.Errorf("set up encoding: %w", err)
	}
	dec, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:  maxWireDepth,
		MaxArrayElements: maxWireItems,
		MaxMapPairs:      maxWireFields,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
	}.DecMode()
	if err != nil {
		return codec{}, fmt.Errorf("set up decoding: %w", err)
	}
	return codec{enc: enc, dec: dec}, nil
}

// pack writes one message of items that are encoded already.
func (c codec) pack(items []cbor.RawMessage) ([]byte, error) {
	return c.enc.Marshal(packed{Version: wireVersion, Items: items})
}

// unpack reads a message and all its items.
func unpack[T any](c codec, data []byte) ([]T, error) {
	var p packed
	if err := c.dec.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("decode message: %w", err)
	}
	if p.Version != wireVersion {
		return nil, fmt.Errorf("decode message of version %d: %w", p.Version, errVersion)
	}
	if len(p.Items) == 0 {
		return nil, fmt.Errorf("decode message: %w", errEmpty)
	}
	items := make([]T, len(p.Items))
	for i, raw := range p.Items {
		if err := c.dec.Unmarshal(raw, &items[i]); err != nil {
			return nil, fmt.Errorf("decode item %d: %w", i, err)
		}
	}
	return items, nil
}

// packEvent writes an event for the ledger, packed like a message of one item.
func (c codec) packEvent(e *Event) ([]byte, error) {
	raw, err := c.enc.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode event %s: %w", e.ID, err)
	}
	return c.pack([]cbor.RawMessage{raw})
}

// unpackEvent reads what packEvent wrote.
func (c codec) unpackEvent(data []byte) (*Event, error) {
	events, err := unpack[Event](c, data)
	if err != nil {
		return nil, err
	}
	return &events[0], nil
}
