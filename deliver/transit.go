package deliver

import (
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// headerSent carries the time at which a message of tasks was sent, in milliseconds by its sender's clock.
const headerSent = "Fanfare-Sent"

// maxTransit is the longest time between sending and storing a message of tasks whose sender still waits for the answer: it gives
// up after 5 s (jetstream.PublisherConfig), and the two clocks may differ by one.
const maxTransit = 4 * time.Second

// stamp records when a message of tasks is sent.
func stamp(msg *message.Message) {
	msg.Metadata = message.Metadata{headerSent: strconv.FormatInt(time.Now().UnixMilli(), 10)}
}

// heldUp reports whether the network held a message of tasks for so long that the tasks were sent again meanwhile.
func heldUp(msg *message.Message, stored time.Time) bool {
	sent, err := strconv.ParseInt(msg.Metadata.Get(headerSent), 10, 64)
	return err == nil && stored.Sub(time.UnixMilli(sent)) > maxTransit // Earlier builds send no time.
}
