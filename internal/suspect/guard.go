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

// maxNew is of how many subjects suspects are counted that the broker calls new. A broker that is killed forgets 100 ms of what
// it handed out, which is fewer.
const maxNew = 1 << 16

type aloneKey struct{}

// Alone reports whether a message was in hand at MaxTries deaths in a row. Nothing else of its stage is in hand now.
func Alone(msg *message.Message) bool { return msg.Context().Value(aloneKey{}) != nil }

// Guard counts the suspect messages of one stage. A nil Guard counts nothing.
type Guard struct {
	stage  string
	chain  *chain
	place  int // in the chain
	counts *table
	log    *slog.Logger

	left     atomic.Int64        // of how many subjects new suspects are counted yet
	all      *semaphore.Weighted // held by everything in hand
	suspects *semaphore.Weighted // held by the suspects in hand, and by those that wait to be handled alone
}

// Handlers say what the messages of a stage are about, and what it does with one that goes on killing processes when it is
// handled alone.
type Handlers struct {
	// About returns what a message is about: the same for every message that asks for the same work. It must need little memory.
	// Nil, none or a panic: the message is counted by its place in the stream.
	About func(msg *message.Message) []Subject
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
			if c := g.counted(msg, h); c != nil {
				return g.suspect(msg, c, next, h)
			}
			return g.beside(msg, next)
		}
	}
}

// counted returns how a message is counted; nil if it is not.
func (g *Guard) counted(msg *message.Message, h Handlers) *count {
	meta, ok := jetstream.Meta(msg)
	again := meta.NumDelivered > 1 || msg.Metadata[headerCounted] != ""
	if !ok || !again && (!meta.Suspect || g.left.Load() <= 0) {
		return nil
	}
	c := &count{stage: g.stage, about: h.subjects(msg, meta)}
	if !again {
		g.left.Add(-int64(len(c.about)))
	}
	return c
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
func (g *Guard) suspect(msg *message.Message, c *count, next message.HandlerFunc, h Handlers) ([]*message.Message, error) {
	msg.SetContext(context.WithValue(msg.Context(), countedKey{}, true))
	if err := g.counts.begin(c); err != nil {
		meta, _ := jetstream.Meta(msg)
		g.log.Debug("suspect message not counted", "seq", meta.Sequence, "error", err)
		return g.beside(msg, next)
	}
	if err := g.suspects.Acquire(msg.Context(), 1); err != nil {
		g.counts.unbegun(c)
		return nil, fmt.Errorf("wait for a message that is handled alone: %w", err)
	}
	defer g.suspects.Release(1)
	if c.tries > MaxTries {
		return g.alone(msg, c, next, h)
	}
	defer g.counts.end(c)
	return g.beside(msg, next)
}

// alone handles a message that was in hand at too many deaths.
func (g *Guard) alone(msg *message.Message, c *count, next message.HandlerFunc, h Handlers) ([]*message.Message, error) {
	meta, _ := jetstream.Meta(msg)
	done, err := g.chain.clear(msg.Context(), g.place)
	if err != nil {
		g.counts.release(c)
		return nil, fmt.Errorf("wait to handle message %d alone: %w", meta.Sequence, err)
	}
	defer done()
	if err := g.counts.beginAlone(msg.Context(), c); err != nil {
		g.counts.release(c)
		return nil, err
	}
	g.log.Warn("message handled alone", "stream", meta.Stream, "seq", meta.Sequence, "tries", c.tries)
	if c.tries > MaxTries+1 {
		return nil, g.giveUp(msg, c, h)
	}
	defer g.counts.endAlone(c)
	msg.SetContext(context.WithValue(msg.Context(), aloneKey{}, true))
	Fault(meta.Stream, msg.Payload)
	return next(msg)
}

// giveUp quarantines a message that kills the process when it is alone, and ends what it asks for. The count stays: another
// message about the same is to end as this one did.
func (g *Guard) giveUp(msg *message.Message, c *count, h Handlers) error {
	meta, _ := jetstream.Meta(msg)
	defer g.counts.takeBack(c)
	cause := fmt.Errorf("%d processes in a row died with message %d of %s in hand", c.tries-1, meta.Sequence, meta.Stream)
	if err := h.PutAway(msg, cause); err != nil {
		return err
	}
	if h.Last == nil || c.tries > MaxTries+2 {
		return nil
	}
	Fault(meta.Stream, msg.Payload)
	return h.Last(msg)
}
