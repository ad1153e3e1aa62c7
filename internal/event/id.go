package event

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/google/uuid"
)

// UID is the ledger's key of an event: a UUIDv7 of its acceptance, the same whenever it is computed.
func UID(tenant, id string, acceptedAt time.Time) uuid.UUID {
	var room [200]byte // what a tenant and an id may have, and a little more
	sum := sha256.Sum256(append(append(append(room[:0], tenant...), 0), id...))
	return Derive(acceptedAt, sum[:])
}

// FirstUID is the smallest key that an event accepted at a time or later can have.
func FirstUID(at time.Time) uuid.UUID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], uint64(max(at.UnixMilli(), 0))<<16)
	return id
}

// Derive makes a UUIDv7 of a time and, instead of random bits, a hash.
func Derive(at time.Time, hash []byte) uuid.UUID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16)
	copy(id[6:], hash[:10])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}
