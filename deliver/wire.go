package deliver

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
)

// wireVersion is the version of the messages in TASKS and ATTEMPTS and of stored events. Fields may be added
// within a version; a reader ignores those that it does not know.
const wireVersion = 1

// sealedVersion is that of messages of tasks and stored events whose contents are sealed: a reader that does not know how to
// open them must not take them for empty.
const sealedVersion = 2

// The bounds of what is read. They are far beyond what is sent, and keep a poisonous message from costing more
// memory than its bytes.
const (
	maxWireItems = 4096 // tasks, targets or attributes in one list
	maxWireDepth = 8
)

var errVersion = errors.New("unknown version")

// wrap writes a message of count items that were written one after the other.
func wrap(count int, items ...[]byte) []byte {
	size := 0
	for _, raw := range items {
		size += len(raw)
	}
	w := newMessage(wireVersion, count, size)
	for _, raw := range items {
		w.buf = append(w.buf, raw...)
	}
	return w.buf
}

// newMessage begins a message of count items, with room for so many bytes of them.
func newMessage(version uint64, count, room int) cborWriter {
	w := cborWriter{buf: make([]byte, 0, 16+room)}
	w.array(2)
	w.uint(version)
	w.array(count)
	return w
}

// unwrap reads a message up to its items, and how many there are, at least one.
func unwrap(data []byte, most int) (items *cborReader, n int, err error) {
	in := &cborReader{buf: data}
	in.array(2, 2)
	if version := in.uint(); in.err == nil && version != wireVersion && version != sealedVersion {
		return nil, 0, fmt.Errorf("decode message of version %d: %w", version, errVersion)
	}
	n = in.array(1, most)
	if in.err != nil {
		return nil, 0, fmt.Errorf("decode message: %w", in.err)
	}
	return in, n, nil
}

// packTasks writes a message of TASKS.
func packTasks(tasks []*Task) []byte {
	room := 0
	version := uint64(wireVersion)
	for _, t := range tasks {
		room += t.room()
		if t.sealed != nil {
			version = sealedVersion
		}
	}
	w := newMessage(version, len(tasks), room)
	for _, t := range tasks {
		t.write(&w)
	}
	return w.buf
}

// unpackTasks reads a message of TASKS. Contents that are sealed stay so; see openTasks.
func unpackTasks(data []byte) ([]Task, error) {
	in, n, err := unwrap(data, maxWireItems)
	if err != nil {
		return nil, err
	}
	tasks := make([]Task, n)
	before := &Event{}
	for i := range tasks {
		tasks[i].read(in, before)
		if in.err != nil {
			return nil, fmt.Errorf("decode task %d: %w", i, in.err)
		}
		before = &tasks[i].Event
	}
	if err := in.end(); err != nil {
		return nil, fmt.Errorf("decode tasks: %w", err)
	}
	return tasks, nil
}

// packEvent writes an event for the ledger, packed like a message of one item. Its contents are in the clear unless they
// are given sealed.
func packEvent(e *Event, sealed []byte) []byte {
	version := uint64(wireVersion)
	if sealed != nil {
		version = sealedVersion
	}
	w := newMessage(version, 1, eventRoom(e))
	writeEvent(&w, e, sealed)
	return w.buf
}

// unpackEvent reads what packEvent wrote. Contents that are sealed are returned so; see openContents.
func unpackEvent(data []byte) (e *Event, sealed []byte, err error) {
	in, _, err := unwrap(data, 1)
	if err != nil {
		return nil, nil, err
	}
	e = &Event{}
	sealed = readEvent(in, e, &Event{})
	if err := in.end(); err != nil {
		return nil, nil, fmt.Errorf("decode event: %w", err)
	}
	return e, sealed, nil
}

// targetRoom is how many bytes a target takes at most, and taskRoom those parts of a task and an event that are always
// there and never long.
const targetRoom, taskRoom, headRoom = 30, 256 + tenantkeys.Overhead, 9

// room is how many bytes the task takes at most.
func (t *Task) room() int { return eventRoom(&t.Event) + len(t.Targets)*targetRoom }

// write writes the task, with the numbers of its fields.
func (t *Task) write(w *cborWriter) {
	task := w.fields()
	w.field(task, 1)
	writeEvent(w, &t.Event, t.sealed)
	w.field(task, 2)
	w.array(len(t.Targets))
	for i := range t.Targets {
		target := w.fields()
		w.field(target, 1)
		w.bytes(t.Targets[i].Subscription[:])
		if g := t.Targets[i].Generation; g != 0 {
			w.field(target, 2)
			w.int(int64(g))
		}
	}
	w.field(task, 3)
	w.int(t.Revision)
	w.flag(task, 4, t.Suspect)
}

// read reads a task; before is the event of the one before it.
func (t *Task) read(in *cborReader, before *Event) {
	for key := range in.fields() {
		switch key {
		case 1:
			t.sealed = readEvent(in, &t.Event, before)
		case 2:
			n := in.array(0, maxWireItems)
			t.Targets = make([]Target, 0, min(n, MaxTargets))
			for ; n > 0 && in.err == nil; n-- {
				t.Targets = append(t.Targets, readTarget(in))
			}
		case 3:
			t.Revision = in.int()
		case 4:
			t.Suspect = in.flag()
		default:
			in.skip(maxWireDepth)
		}
	}
}

func readTarget(in *cborReader) (t Target) {
	for key := range in.fields() {
		switch key {
		case 1:
			t.Subscription = in.id()
		case 2:
			t.Generation = int(in.int())
		default:
			in.skip(maxWireDepth)
		}
	}
	return t
}

// eventRoom is how many bytes the event takes at most, as a part of a task.
func eventRoom(e *Event) int {
	n := taskRoom + len(e.ID) + len(e.Tenant) + len(e.Type) + len(e.Data) + len(e.ObjectID) + len(e.TraceParent)
	n += len(e.ContentType)
	if c := e.Cloud; c != nil {
		n += 6*headRoom + len(c.ID) + len(c.Source) + len(c.Subject) + len(c.DataSchema)
		for _, x := range c.Extensions {
			n += 3*headRoom + len(x.Name) + len(x.Value)
		}
	}
	for _, list := range [...][]string{e.ResourceIDs, e.Changed} {
		for _, item := range list {
			n += headRoom + len(item)
		}
	}
	return n
}

// writeEvent writes an event, its contents in the clear unless they are given sealed.
func writeEvent(w *cborWriter, e *Event, sealed []byte) {
	fields := w.fields()
	w.field(fields, 1)
	w.bytes(e.UID[:])
	w.field(fields, 2)
	w.text(e.ID)
	w.field(fields, 3)
	w.text(e.Tenant)
	w.field(fields, 4)
	w.text(e.Type)
	w.field(fields, 5)
	w.time(e.Time)
	if sealed == nil {
		writeContents(w, fields, e)
	}
	if e.TraceParent != "" {
		w.field(fields, 10)
		w.text(e.TraceParent)
	}
	w.field(fields, 11)
	w.uint(e.Seq)
	w.field(fields, 12)
	w.time(e.AcceptedAt)
	w.flag(fields, 13, e.Test)
	if e.ContentType != "" {
		w.field(fields, 14)
		w.text(e.ContentType)
	}
	if e.Cloud != nil && sealed == nil {
		w.field(fields, 15)
		writeCloud(w, e.Cloud)
	}
	if sealed != nil {
		w.field(fields, 16)
		w.bytes(sealed)
	}
}

// writeContents writes the first of those fields that are sealed together; the CloudEvent's come later, as field 15.
func writeContents(w *cborWriter, fields int, e *Event) {
	w.field(fields, 6)
	w.bytes(e.Data)
	if e.ObjectID != "" {
		w.field(fields, 7)
		w.text(e.ObjectID)
	}
	w.texts(fields, 8, e.ResourceIDs)
	w.texts(fields, 9, e.Changed)
}

// writeCloud writes what a CloudEvent says of itself. Values of an extension that are no strings stand in field 3.
func writeCloud(w *cborWriter, c *event.Cloud) {
	cloud := w.fields()
	for i, text := range [...]string{c.ID, c.Source, c.Subject, c.DataSchema} {
		if text != "" {
			w.field(cloud, byte(i+1))
			w.text(text)
		}
	}
	if len(c.Extensions) == 0 {
		return
	}
	w.field(cloud, 5)
	w.array(len(c.Extensions))
	for _, x := range c.Extensions {
		extension := w.fields()
		w.field(extension, 1)
		w.text(x.Name)
		w.field(extension, 2)
		w.text(x.Value)
		w.flag(extension, 3, x.Literal)
	}
}

func readCloud(in *cborReader) *event.Cloud {
	c := &event.Cloud{}
	for key := range in.fields() {
		switch key {
		case 1:
			c.ID = in.text("")
		case 2:
			c.Source = in.text("")
		case 3:
			c.Subject = in.text("")
		case 4:
			c.DataSchema = in.text("")
		case 5:
			for n := in.array(0, maxWireItems); n > 0 && in.err == nil; n-- {
				c.Extensions = append(c.Extensions, readExtension(in))
			}
		default:
			in.skip(maxWireDepth)
		}
	}
	return c
}

func readExtension(in *cborReader) (x event.Extension) {
	for key := range in.fields() {
		switch key {
		case 1:
			x.Name = in.text("")
		case 2:
			x.Value = in.text("")
		case 3:
			x.Literal = in.flag()
		default:
			in.skip(maxWireDepth)
		}
	}
	return x
}

// readEvent reads an event and returns its contents if they are sealed. Texts that are those of the event before are shared
// with it; the data is copied, or one slow delivery would keep the memory of a whole message.
func readEvent(in *cborReader, e, before *Event) (sealed []byte) {
	for key := range in.fields() {
		switch key {
		case 1:
			e.UID = in.id()
		case 2:
			e.ID = in.text("")
		case 3:
			e.Tenant = in.text(before.Tenant)
		case 4:
			e.Type = in.text(before.Type)
		case 5:
			e.Time = in.time()
		case 6:
			if e.Data = in.bytes(); !in.owned {
				e.Data = bytes.Clone(e.Data)
			}
		case 7:
			e.ObjectID = in.text(before.ObjectID)
		case 8:
			e.ResourceIDs = in.texts()
		case 9:
			e.Changed = in.texts()
		case 10:
			e.TraceParent = in.text("")
		case 11:
			e.Seq = in.uint()
		case 12:
			e.AcceptedAt = in.time()
		case 13:
			e.Test = in.flag()
		case 14:
			e.ContentType = in.text(before.ContentType)
		case 15:
			e.Cloud = readCloud(in)
		case 16:
			if sealed = in.bytes(); sealed == nil {
				sealed = []byte{}
			}
		default:
			in.skip(maxWireDepth)
		}
	}
	return sealed
}
