package suspect

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/sync/semaphore"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// MaxTries is after how many deaths in a row a message is handled alone.
const MaxTries = 3

// maxNew is how many suspects that the broker calls new are counted. A broker that is killed forgets 100 ms of what it handed
// out, which is fewer.
const maxNew = 1 << 13

type aloneKey struct{}

// Alone reports whether a message was in hand at MaxTries deaths in a row. Nothing else of its stage is in hand now.
func Alone(msg *message.Message) bool { return msg.Context().Value(aloneKey{}) != nil }

// Guard counts the suspect messages of one stage. A nil Guard counts nothing.
type Guard struct {
	chain  *chain
	place  int // in the chain
	counts *table
	log    *slog.Logger

	left     atomic.Int64        // how many new suspects are counted yet
	all      *semaphore.Weighted // held by everything in hand
	suspects *semaphore.Weighted // held by the suspects in hand
}

// Handlers are what a stage does with a message that goes on killing processes when it is handled alone.
type Handlers struct {
	// PutAway quarantines the message. It reads nothing of it.
	PutAway func(msg *message.Message, cause error) error
	// Last ends what the message asks for. If that kills the process, too, it is left out. Nil: there is nothing to end.
	Last message.NoPublishHandlerFunc
}

// Middleware is for the stage's Router, outside of what recovers from panics.
func (g *Guard) Middleware(h Handlers) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		if g == nil {
			return next
		}
		return func(msg *message.Message) ([]*message.Message, error) {
			if meta, ok := jetstream.Meta(msg); ok && g.counted(meta) {
				return g.suspect(msg, meta, next, h)
			}
			return g.beside(msg, next)
		}
	}
}

// counted reports whether a message is to be counted.
func (g *Guard) counted(meta jetstream.Delivery) bool {
	return meta.NumDelivered > 1 || meta.Suspect && g.left.Load() > 0 && g.left.Add(-1) >= 0
}

// beside handles a message beside others.
func (g *Guard) beside(msg *message.Message, next message.HandlerFunc) ([]*message.Message, error) {
	if err := g.all.Acquire(msg.Context(), 1); err != nil {
		return nil, fmt.Errorf("wait for a message that is handled alone: %w", err)
	}
	defer g.all.Release(1)
	meta, _ := jetstream.Meta(msg)
	Fault(meta.Stream, msg.Payload)
	return next(msg)
}

// suspect handles a message that is counted.
func (g *Guard) suspect(msg *message.Message, meta jetstream.Delivery, next message.HandlerFunc, h Handlers) ([]*message.Message, error) {
	c := &count{stream: meta.Stream, seq: meta.Sequence, storedAt: meta.Timestamp}
	if err := g.counts.begin(c); err != nil {
		g.log.Debug("suspect message not counted", "seq", meta.Sequence, "error", err)
		return g.beside(msg, next)
	}
	if c.tries > MaxTries {
		return g.alone(msg, c, next, h)
	}
	if err := g.suspects.Acquire(msg.Context(), 1); err != nil {
		return nil, fmt.Errorf("wait for a message that is handled alone: %w", err)
	}
	defer g.suspects.Release(1)
	defer g.counts.end(c)
	return g.beside(msg, next)
}

// alone handles a message that was in hand at too many deaths.
func (g *Guard) alone(msg *message.Message, c *count, next message.HandlerFunc, h Handlers) ([]*message.Message, error) {
	done, err := g.chain.clear(msg.Context(), g.place)
	if err != nil {
		return nil, fmt.Errorf("wait to handle message %d alone: %w", c.seq, err)
	}
	defer done()
	if err := g.counts.beginAlone(msg.Context(), c); err != nil {
		return nil, err
	}
	g.log.Warn("message handled alone", "stream", c.stream, "seq", c.seq, "tries", c.tries)
	if c.tries > MaxTries+1 {
		return nil, g.giveUp(msg, c, h)
	}
	defer g.counts.end(c)
	msg.SetContext(context.WithValue(msg.Context(), aloneKey{}, true))
	Fault(c.stream, msg.Payload)
	return next(msg)
}

// giveUp quarantines a message that kills the process when it is alone, and ends what it asks for.
func (g *Guard) giveUp(msg *message.Message, c *count, h Handlers) error {
	cause := fmt.Errorf("%d processes in a row died with message %d of %s in hand", c.tries-1, c.seq, c.stream)
	if err := h.PutAway(msg, cause); err != nil {
		return err
	}
	defer g.counts.end(c)
	if h.Last == nil || c.tries > MaxTries+2 {
		return nil
	}
	Fault(c.stream, msg.Payload)
	return h.Last(msg)
}
