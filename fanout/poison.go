package fanout

import (
	"context"
	"errors"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// maxPanics is how often an event may make its handler panic before it is put away.
const maxPanics = 3

// poison puts an event away that makes its handler panic whenever it comes, so that it does not come for ever.
// It is outside of Recoverer, which makes an error of the panic.
func (s *Stage) poison(ctx context.Context) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			produced, err := next(msg)
			panicked, ok := errors.AsType[middleware.RecoveredPanicError](err)
			if !ok {
				return produced, err
			}
			if put, failed := s.putAway(ctx, msg, panicked); put {
				return nil, failed
			}
			return produced, err
		}
	}
}

// putAway tells of a panic and puts the event away, if it was not the first one.
func (s *Stage) putAway(ctx context.Context, msg *message.Message, panicked middleware.RecoveredPanicError) (put bool, err error) {
	s.log.Error("an event made fan-out panic", "error", panicked.Error(), "stack", panicked.Stacktrace)
	from, ok := jetstream.Meta(msg)
	if !ok || from.NumDelivered < maxPanics {
		return false, nil
	}
	return true, s.refuse(ctx, msg, event.Refuse(event.Internal, "event", "could not be handled, by a fault of Fanfare's own"))
}
