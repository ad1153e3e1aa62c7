package deliver

import (
	"fmt"

	"github.com/fanfarehq/fanfare/internal/cbor"
	"github.com/fanfarehq/fanfare/internal/event"
)

// packTasks writes a message of TASKS.
func packTasks(tasks []*Task) []byte {
	room := 0
	version := uint64(cbor.Version)
	for _, t := range tasks {
		room += t.room()
		if t.sealed != nil {
			version = cbor.SealedVersion
		}
	}
	w := cbor.NewMessage(version, len(tasks), room)
	for _, t := range tasks {
		t.write(&w)
	}
	return w.Buf
}

// unpackTasks reads a message of TASKS. Contents that are sealed stay so; see openTasks.
func unpackTasks(data []byte) ([]Task, error) {
	in, n, err := cbor.Unwrap(data, cbor.MaxItems)
	if err != nil {
		return nil, err
	}
	tasks := make([]Task, n)
	before := &event.Event{}
	for i := range tasks {
		tasks[i].read(in, before)
		if in.Err != nil {
			return nil, fmt.Errorf("decode task %d: %w", i, in.Err)
		}
		before = &tasks[i].Event
	}
	if err := in.End(); err != nil {
		return nil, fmt.Errorf("decode tasks: %w", err)
	}
	return tasks, nil
}

// targetRoom is how many bytes a target takes at most.
const targetRoom = 30

// room is how many bytes the task takes at most.
func (t *Task) room() int { return event.Room(&t.Event) + len(t.Targets)*targetRoom }

// write writes the task, with the numbers of its fields.
func (t *Task) write(w *cbor.Writer) {
	task := w.Fields()
	w.Field(task, 1)
	event.Write(w, &t.Event, t.sealed)
	w.Field(task, 2)
	w.Array(len(t.Targets))
	for i := range t.Targets {
		target := w.Fields()
		w.Field(target, 1)
		w.Bytes(t.Targets[i].Subscription[:])
		if g := t.Targets[i].Generation; g != 0 {
			w.Field(target, 2)
			w.Int(int64(g))
		}
	}
	w.Field(task, 3)
	w.Int(t.Revision)
	w.Flag(task, 4, t.Suspect)
}

// read reads a task; before is the event of the one before it.
func (t *Task) read(in *cbor.Reader, before *event.Event) {
	for key := range in.Fields() {
		switch key {
		case 1:
			t.sealed = event.Read(in, &t.Event, before)
		case 2:
			n := in.Array(0, cbor.MaxItems)
			t.Targets = make([]Target, 0, min(n, MaxTargets))
			for ; n > 0 && in.Err == nil; n-- {
				t.Targets = append(t.Targets, readTarget(in))
			}
		case 3:
			t.Revision = in.Int()
		case 4:
			t.Suspect = in.Flag()
		default:
			in.Skip(cbor.MaxDepth)
		}
	}
}

func readTarget(in *cbor.Reader) (t Target) {
	for key := range in.Fields() {
		switch key {
		case 1:
			t.Subscription = in.ID()
		case 2:
			t.Generation = int(in.Int())
		default:
			in.Skip(cbor.MaxDepth)
		}
	}
	return t
}
