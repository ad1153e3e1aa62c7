package deliver

import (
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/suspect"
)

// aboutTasks returns what a message of tasks is about: its events.
func aboutTasks(msg *message.Message) []suspect.Subject {
	tasks, err := unpackTasks(msg.Payload)
	if err != nil {
		return nil
	}
	list := make([]suspect.Subject, len(tasks))
	for i := range tasks {
		list[i] = suspect.Of(tasks[i].Event.Tenant, tasks[i].Event.ID)
	}
	return list
}

// aboutOutcomes returns what a message of outcomes is about: its deliveries. A repeat may have another number of attempts.
func aboutOutcomes(msg *message.Message) []suspect.Subject {
	records, err := outcome.Unpack(msg.Payload)
	if err != nil {
		return nil
	}
	list := make([]suspect.Subject, len(records))
	for i, r := range records {
		list[i] = suspect.Of(r.Delivery.String())
	}
	return list
}
