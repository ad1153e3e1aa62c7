package cbor

import (
	"errors"
	"fmt"
)

// Version is the version of the messages in TASKS and ATTEMPTS and of stored events. Fields may be added
// within a version; a reader ignores those that it does not know.
const Version = 1

// SealedVersion is that of messages of tasks and stored events whose contents are sealed: a reader that does not know how to
// open them must not take them for empty.
const SealedVersion = 2

// Bounds of messages that are read. They are far beyond those of messages that are written, and keep a malformed message
// from using more memory than its bytes.
const (
	MaxItems = 4096 // tasks, targets or attributes in one list
	MaxDepth = 8
)

// ErrVersion says that a message has a version that this build cannot read.
var ErrVersion = errors.New("unknown version")

// Wrap writes a message of count items that were written one after the other.
func Wrap(count int, items ...[]byte) []byte {
	size := 0
	for _, raw := range items {
		size += len(raw)
	}
	w := NewMessage(Version, count, size)
	for _, raw := range items {
		w.Buf = append(w.Buf, raw...)
	}
	return w.Buf
}

// NewMessage begins a message of count items, with room for so many bytes of items.
func NewMessage(version uint64, count, room int) Writer {
	w := Writer{Buf: make([]byte, 0, 16+room)}
	w.Array(2)
	w.Uint(version)
	w.Array(count)
	return w
}

// Unwrap reads a message up to its items, and how many there are, at least one.
func Unwrap(data []byte, most int) (items *Reader, n int, err error) {
	in := &Reader{Buf: data}
	in.Array(2, 2)
	if version := in.Uint(); in.Err == nil && version != Version && version != SealedVersion {
		return nil, 0, fmt.Errorf("decode message of version %d: %w", version, ErrVersion)
	}
	n = in.Array(1, most)
	if in.Err != nil {
		return nil, 0, fmt.Errorf("decode message: %w", in.Err)
	}
	return in, n, nil
}
