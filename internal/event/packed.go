package event

import (
	"bytes"
	"fmt"

	"github.com/fanfarehq/fanfare/internal/cbor"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
)

// The bounds of what Room counts: the fixed parts of an event and of the task around it, and the head of a value.
const taskRoom, headRoom = 256 + tenantkeys.Overhead, 9

// Pack writes an event for the ledger, as a message of one item. Its contents are in the clear unless they
// are given sealed.
func Pack(e *Event, sealed []byte) []byte {
	version := uint64(cbor.Version)
	if sealed != nil {
		version = cbor.SealedVersion
	}
	w := cbor.NewMessage(version, 1, Room(e))
	Write(&w, e, sealed)
	return w.Buf
}

// Unpack reads an event that Pack wrote. Contents that are sealed are returned so; see Open.
func Unpack(data []byte) (e *Event, sealed []byte, err error) {
	in, _, err := cbor.Unwrap(data, 1)
	if err != nil {
		return nil, nil, err
	}
	e = &Event{}
	sealed = Read(in, e, &Event{})
	if err := in.End(); err != nil {
		return nil, nil, fmt.Errorf("decode event: %w", err)
	}
	return e, sealed, nil
}

// Room bounds the bytes that Write needs for the event and the fixed parts of the task around it.
func Room(e *Event) int {
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

// Write writes an event, its contents in the clear unless they are given sealed.
// Write writes an event as part of a message.
func Write(w *cbor.Writer, e *Event, sealed []byte) {
	fields := w.Fields()
	w.Field(fields, 1)
	w.Bytes(e.UID[:])
	w.Field(fields, 2)
	w.Text(e.ID)
	w.Field(fields, 3)
	w.Text(e.Tenant)
	w.Field(fields, 4)
	w.Text(e.Type)
	w.Field(fields, 5)
	w.Time(e.Time)
	if sealed == nil {
		writeContents(w, fields, e)
	}
	if e.TraceParent != "" {
		w.Field(fields, 10)
		w.Text(e.TraceParent)
	}
	w.Field(fields, 11)
	w.Uint(e.Seq)
	w.Field(fields, 12)
	w.Time(e.AcceptedAt)
	w.Flag(fields, 13, e.Test)
	if e.ContentType != "" {
		w.Field(fields, 14)
		w.Text(e.ContentType)
	}
	if e.Cloud != nil && sealed == nil {
		w.Field(fields, 15)
		writeCloud(w, e.Cloud)
	}
	if sealed != nil {
		w.Field(fields, 16)
		w.Bytes(sealed)
	}
}

// writeContents writes the first of those fields that are sealed together; the CloudEvent's come later, as field 15.
func writeContents(w *cbor.Writer, fields int, e *Event) {
	w.Field(fields, 6)
	w.Bytes(e.Data)
	if e.ObjectID != "" {
		w.Field(fields, 7)
		w.Text(e.ObjectID)
	}
	w.Texts(fields, 8, e.ResourceIDs)
	w.Texts(fields, 9, e.Changed)
}

// writeCloud writes the attributes of a CloudEvent. Field 3 of an extension marks values that are not strings.
func writeCloud(w *cbor.Writer, c *Cloud) {
	cloud := w.Fields()
	for i, text := range [...]string{c.ID, c.Source, c.Subject, c.DataSchema} {
		if text != "" {
			w.Field(cloud, byte(i+1))
			w.Text(text)
		}
	}
	if len(c.Extensions) == 0 {
		return
	}
	w.Field(cloud, 5)
	w.Array(len(c.Extensions))
	for _, x := range c.Extensions {
		extension := w.Fields()
		w.Field(extension, 1)
		w.Text(x.Name)
		w.Field(extension, 2)
		w.Text(x.Value)
		w.Flag(extension, 3, x.Literal)
	}
}

func readCloud(in *cbor.Reader) *Cloud {
	c := &Cloud{}
	for key := range in.Fields() {
		switch key {
		case 1:
			c.ID = in.Text("")
		case 2:
			c.Source = in.Text("")
		case 3:
			c.Subject = in.Text("")
		case 4:
			c.DataSchema = in.Text("")
		case 5:
			for n := in.Array(0, cbor.MaxItems); n > 0 && in.Err == nil; n-- {
				c.Extensions = append(c.Extensions, readExtension(in))
			}
		default:
			in.Skip(cbor.MaxDepth)
		}
	}
	return c
}

func readExtension(in *cbor.Reader) (x Extension) {
	for key := range in.Fields() {
		switch key {
		case 1:
			x.Name = in.Text("")
		case 2:
			x.Value = in.Text("")
		case 3:
			x.Literal = in.Flag()
		default:
			in.Skip(cbor.MaxDepth)
		}
	}
	return x
}

// Read reads an event and returns its contents if they are sealed. Texts that are those of the event before are shared
// with it; the data is copied, or one slow delivery would keep the memory of a whole message.
func Read(in *cbor.Reader, e, before *Event) (sealed []byte) {
	for key := range in.Fields() {
		switch key {
		case 1:
			e.UID = in.ID()
		case 2:
			e.ID = in.Text("")
		case 3:
			e.Tenant = in.Text(before.Tenant)
		case 4:
			e.Type = in.Text(before.Type)
		case 5:
			e.Time = in.Time()
		case 6:
			if e.Data = in.Bytes(); !in.Owned {
				e.Data = bytes.Clone(e.Data)
			}
		case 7:
			e.ObjectID = in.Text(before.ObjectID)
		case 8:
			e.ResourceIDs = in.Texts()
		case 9:
			e.Changed = in.Texts()
		case 10:
			e.TraceParent = in.Text("")
		case 11:
			e.Seq = in.Uint()
		case 12:
			e.AcceptedAt = in.Time()
		case 13:
			e.Test = in.Flag()
		case 14:
			e.ContentType = in.Text(before.ContentType)
		case 15:
			e.Cloud = readCloud(in)
		case 16:
			if sealed = in.Bytes(); sealed == nil {
				sealed = []byte{}
			}
		default:
			in.Skip(cbor.MaxDepth)
		}
	}
	return sealed
}
