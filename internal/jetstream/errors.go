package jetstream

import "errors"

// What a send can fail with, beside the errors of its caller's context. Where the cause is not one of these,
// the broker refused the message for a reason of its own.
var (
	// ErrUnavailable says that no broker answered in time. Whether the message was stored is unknown: send it
	// again, with the same id, and the stream keeps it once.
	ErrUnavailable = errors.New("jetstream is unavailable")
	// ErrFull says that the stream, or the broker's disk, takes no more messages now. Nothing was stored.
	ErrFull = errors.New("the stream is full")
	// ErrTooLarge says that the message exceeds what the broker takes. Nothing was sent.
	ErrTooLarge = errors.New("the message is too large")
)
