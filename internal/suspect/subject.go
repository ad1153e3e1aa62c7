package suspect

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strconv"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// Subject names what a message is about. A stage that repeats its work after a death sends another message about the same.
type Subject = uuid.UUID

// Of returns the subject that these parts name.
func Of(parts ...string) Subject {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return Subject(sum[:16])
}

// place is the subject of a message about which nothing else is known.
func place(meta jetstream.Delivery) Subject {
	return Of(meta.Stream, strconv.FormatUint(meta.Sequence, 10), strconv.FormatInt(meta.Timestamp.UnixMicro(), 10))
}

// subjects returns what a message is about, in order and each once. A message that cannot be read is about its place.
func (h Handlers) subjects(msg *message.Message, meta jetstream.Delivery) (list []Subject) {
	defer func() {
		if recover() != nil || len(list) == 0 {
			list = []Subject{place(meta)}
		}
	}()
	if h.About == nil {
		return nil
	}
	list = h.About(msg)
	slices.SortFunc(list, func(a, b Subject) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(list)
}

// headerCounted marks a message that was sent while a message was handled that is counted.
const headerCounted = "Fanfare-Counted"

// Mark has a message counted by the stage that receives it, as it may repeat another one.
func Mark(msg *message.Message) {
	if msg.Metadata == nil {
		msg.Metadata = make(message.Metadata, 1)
	}
	msg.Metadata[headerCounted] = "1"
}

type countedKey struct{}

// Counted reports whether a message is counted: its handler marks the messages that it sends; see Mark.
func Counted(msg *message.Message) bool { return msg.Context().Value(countedKey{}) != nil }
