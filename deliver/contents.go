package deliver

import (
	"context"
	"errors"
	"slices"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
)

// What customers sent is sealed wherever it is stored, with the key of its tenant and day: an event's contents in tasks
// and among kept events, responses and errors of attempts. What is routed by stays in the clear. Erased contents leave
// nothing readable in streams, free pages and logs, as they were never there.

// sealTasks returns copies of tasks with their contents sealed.
func sealTasks(ctx context.Context, keys *tenantkeys.Keys, tasks []Task) ([]Task, error) {
	if keys == nil {
		return tasks, nil
	}
	tasks = slices.Clone(tasks)
	for i := range tasks {
		t := &tasks[i]
		if i > 0 && t.Event.UID == tasks[i-1].Event.UID && t.Event.Tenant == tasks[i-1].Event.Tenant {
			t.sealed = tasks[i-1].sealed // An event for more than MaxTargets.
			continue
		}
		var err error
		if t.sealed, err = event.Seal(ctx, keys, &t.Event); err != nil {
			return nil, err
		}
	}
	return tasks, nil
}

// openTasks opens the contents of tasks, and marks those as lost whose contents cannot be opened any more. It may be
// repeated after an error.
func openTasks(ctx context.Context, keys *tenantkeys.Keys, tasks []Task) error {
	for i := range tasks {
		t := &tasks[i]
		if t.sealed == nil {
			continue
		}
		err := event.Open(ctx, keys, &t.Event, t.sealed)
		if t.lost = errors.Is(err, event.ErrGone); err != nil && !t.lost {
			return err
		}
		t.sealed = nil
	}
	return nil
}
