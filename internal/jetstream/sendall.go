package jetstream

import (
	"context"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Outgoing is one message of SendAll, and then what became of it.
type Outgoing struct {
	Subject string
	Message *message.Message

	Ack Ack
	Err error
}

// SendAll is Send for several messages at once, of subjects of their own. Messages of one stream are stored in their
// order, and go into as few commits as they would from as many callers; but each has an outcome of its own.
func (p *Publisher) SendAll(ctx context.Context, out []Outgoing) {
	if !p.begin() {
		for i := range out {
			out[i].Err = fmt.Errorf("publish to %s: %w", out[i].Subject, ErrClosed)
		}
		return
	}
	defer p.sends.Done()
	largest := int(p.js.Conn().MaxPayload()) - batchRoom
	for next := 0; next < len(out); {
		next += p.sendRun(ctx, out[next:], largest)
	}
	for i := range out {
		if out[i].Err != nil {
			out[i].Err = fmt.Errorf("publish to %s: %w", out[i].Subject, out[i].Err)
		}
	}
}

// sendRun sends the messages at the start of out that go into one stream, and returns how many it has dealt with.
func (p *Publisher) sendRun(ctx context.Context, out []Outgoing, largest int) int {
	var common *lane
	letters := make([]letter, 0, len(out))
	of := make([]*Outgoing, 0, len(out)) // whose the letters are
	done := 0
	for i := range out {
		o := &out[i]
		l, err := p.laneOf(ctx, o.Subject)
		if err == nil && common != nil && l != common {
			break
		}
		done++
		var x letter
		if err == nil {
			common = l
			x, err = encode(o.Subject, o.Message, p.cfg.Dedupe)
		}
		if err == nil && x.size > largest {
			err = fmt.Errorf("%w: %d bytes, of at most %d", ErrTooLarge, x.size, largest)
		}
		if err != nil {
			o.Err = err
			continue
		}
		letters, of = append(letters, x), append(of, o)
	}
	if common == nil || len(letters) == 0 {
		return done
	}
	err := common.committer.Do(ctx, letters)
	for i, o := range of {
		switch {
		case err != nil: // The commit may still be writing to the letters.
			o.Err = unanswered(err)
		case letters[i].err != nil:
			o.Err = letters[i].err
		default:
			o.Ack = letters[i].ack
		}
	}
	for _, o := range of {
		if o.Err != nil {
			p.reconsider(common, o.Err)
			break
		}
	}
	return done
}
