package deliver

import (
	"github.com/ThreeDotsLabs/watermill/message"

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
