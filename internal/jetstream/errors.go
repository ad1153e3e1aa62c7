package jetstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// What a send can fail with, beside the end of its caller's context. Where the error is none of these, the
// message itself cannot be sent: no stream takes its subject, or it has a header that cannot be.
var (
	// ErrUnavailable says that no broker answered in time. Whether the message was stored is unknown: send it
	// again, with the same id, and the stream keeps it once.
	ErrUnavailable = errors.New("jetstream is unavailable")
	// ErrFull says that the stream, its account or its broker takes no more messages, by their limits. Nothing was stored.
	// A disk that is full before those are reached is ErrUnavailable: then the broker does not answer any more.
	ErrFull = errors.New("the stream is full")
	// ErrNoRoom is the ErrFull of a Publisher whose Room refused.
	ErrNoRoom = fmt.Errorf("%w: too little space is left", ErrFull)
	// ErrTooLarge says that the message exceeds what the broker takes. Nothing was stored.
	ErrTooLarge = errors.New("the message is too large")
	// ErrClosed says that the Publisher or Subscriber was closed before the call.
	ErrClosed = errors.New("closed")
)

// Error codes of JetStream that nats.go has no name for.
const (
	codeAccountResources natsjs.ErrorCode = 10002
	codeNoResources      natsjs.ErrorCode = 10023 // the server's limit, or its disk
	codeMemoryResources  natsjs.ErrorCode = 10028
	codeStorageResources natsjs.ErrorCode = 10047
	codeStoreFailed      natsjs.ErrorCode = 10077 // the stream's limit of bytes or messages
	codeHeaderTooLarge   natsjs.ErrorCode = 10097
	codeTooManyRequests  natsjs.ErrorCode = 10167
	codeAtomicDisabled   natsjs.ErrorCode = 10174
	codeDuplicateInBatch natsjs.ErrorCode = 10201
	statusUnavailable                     = 503
)

// Classify puts the sentinel before an error of the client or the broker.
func Classify(err error) error {
	if sentinel := sentinelOf(err); sentinel != nil {
		return fmt.Errorf("%w: %w", sentinel, err)
	}
	return err
}

func sentinelOf(err error) error {
	if refused, ok := errors.AsType[*natsjs.APIError](err); ok {
		return sentinelOfRefusal(refused)
	}
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return ErrTooLarge
	case errors.Is(err, nats.ErrBadSubject), errors.Is(err, nats.ErrBadHeaderMsg), errors.Is(err, context.Canceled):
		return nil
	default:
		// Whatever else befalls a message on its way, nobody said that it was not stored.
		return ErrUnavailable
	}
}

func sentinelOfRefusal(refused *natsjs.APIError) error {
	switch refused.ErrorCode {
	case codeStoreFailed, codeNoResources, codeAccountResources, codeMemoryResources, codeStorageResources:
		return ErrFull
	case natsjs.JSErrCodeStreamMessageExceedsMaximum, codeHeaderTooLarge:
		return ErrTooLarge
	case codeTooManyRequests:
		return ErrUnavailable
	}
	if refused.Code == statusUnavailable {
		return ErrUnavailable
	}
	return nil
}

// isCode says whether the broker refused with this code.
func isCode(err error, code natsjs.ErrorCode) bool {
	refused, ok := errors.AsType[*natsjs.APIError](err)
	return ok && refused.ErrorCode == code
}
