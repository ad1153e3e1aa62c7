package event

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// ReservedPrefix begins the types that only Fanfare publishes.
const ReservedPrefix = "fanfare."

// Reserved reports whether only Fanfare publishes events of a type.
func Reserved(name string) bool { return strings.HasPrefix(name, ReservedPrefix) }

// Marks makes and checks the marks of Fanfare's own events. Whoever may publish to the stream can write any header, but not
// a mark: it is an HMAC of the tenant, the id and the content, under keys that Fanfare's processes share.
type Marks struct {
	keys [][]byte // the first marks, all check
}

// NewMarks makes Marks of keys.
func NewMarks(keys ...[]byte) Marks { return Marks{keys: keys} }

// Sign marks an event, once all of it that counts as content is there.
func (m Marks) Sign(e *Event) {
	if len(m.keys) > 0 {
		e.Mark = mark(m.keys[0], e)
	}
}

// Check refuses an event of a reserved type that is not Fanfare's own.
func (m Marks) Check(e *Event) *Refusal {
	if !Reserved(e.Type) {
		return nil
	}
	for _, key := range m.keys {
		if hmac.Equal([]byte(mark(key, e)), []byte(e.Mark)) {
			return nil
		}
	}
	return Refuse(ReservedType, "type", "must not begin with "+ReservedPrefix+": only Fanfare publishes such types")
}

func mark(key []byte, e *Event) string {
	hash := e.Hash()
	h := hmac.New(sha256.New, key)
	h.Write(appendPart(appendPart(nil, e.Tenant), e.ID))
	h.Write(hash[:])
	if e.Test {
		h.Write([]byte{1})
	}
	return hex.EncodeToString(h.Sum(nil))
}
