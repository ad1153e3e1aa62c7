package outcome

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/event"
)

// FirstID is the lowest id of a millisecond.
func FirstID(at time.Time) uuid.UUID {
	var id uuid.UUID
	if at.UnixMilli() > 0 {
		binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16)
	}
	return id
}

// FirstDelivery is the id of the first generation.
func FirstDelivery(event, subscription uuid.UUID) uuid.UUID {
	return ID(event, subscription, 0, TimeOf(event))
}

// Oldest is the lowest id that a delivery of an event can have.
func Oldest(event uuid.UUID) uuid.UUID { return FirstID(TimeOf(event)) }

// TimeOf is the time in an id, in whole milliseconds.
func TimeOf(id uuid.UUID) time.Time {
	var ms int64
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	return time.UnixMilli(ms)
}

// ID is the delivery's id: a UUIDv7 that is the same whenever it is computed, so that the ledger's one key
// holds a delivery once. At is the event's acceptance for generation 0, and the time of the request for later ones.
func ID(eventUID, subscription uuid.UUID, generation int, at time.Time) uuid.UUID {
	var buf [36]byte
	copy(buf[:16], eventUID[:])
	copy(buf[16:32], subscription[:])
	binary.BigEndian.PutUint32(buf[32:], uint32(generation))
	sum := sha256.Sum256(buf[:])
	return event.Derive(at, sum[:])
}
