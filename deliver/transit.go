package deliver

import (
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// headerSent carries the time at which the first task of a message was sent, in milliseconds by its sender's clock.
const headerSent = "Fanfare-Sent"

// maxTransit is the longest time between sending and storing a task that surely nobody else has sent meanwhile: the broker gives an event
// to another fan-out after 15 s without a word (jetstream.AckWait), and the two clocks may differ by some.
const maxTransit = 4 * time.Second

// stamp records when the first of a message's tasks was sent. It may have waited for its turn since, behind messages that the network holds.
func stamp(msg *message.Message, sent time.Time) {
	msg.Metadata = message.Metadata{headerSent: strconv.FormatInt(sent.UnixMilli(), 10)}
}

// heldUp reports whether tasks took so long from their sender to the stream that another one may have sent them meanwhile.
func heldUp(msg *message.Message, stored time.Time) bool {
	sent, err := strconv.ParseInt(msg.Metadata.Get(headerSent), 10, 64)
	return err == nil && stored.Sub(time.UnixMilli(sent)) > maxTransit // Earlier builds send no time.
}
