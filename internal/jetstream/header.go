package jetstream

import (
	"fmt"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

const (
	// headerUUID carries a message's UUID where it is no Nats-Msg-Id.
	headerUUID = "Watermill-Uuid"
	// brokerPrefix begins the headers by which the broker is told what to do. They pass in neither direction: a
	// message that is handed on must not purge a stream because the one before it did.
	brokerPrefix = "Nats-"
	// maxHeader is what the broker takes.
	maxHeader = 1<<16 - 1
	// headerBase is what an empty header needs, headerLine what a line needs beside its key and value.
	headerBase, headerLine = len("NATS/1.0\r\n\r\n"), len(": \r\n")
)

// letter is a message on its way into a stream, and then what became of it.
type letter struct {
	msg  *nats.Msg
	size int // of header and body, in bytes
	ack  Ack
	err  error
}

// encode makes the NATS message: metadata becomes headers, in whose values line breaks become spaces and spaces at
// either end are lost. The UUID becomes the Nats-Msg-Id or, without dedupe, a header of its own.
func encode(subject string, msg *message.Message, dedupe bool) (letter, error) {
	header := make(nats.Header, len(msg.Metadata)+1+batchHeaders)
	values := make([]string, 0, len(msg.Metadata)+1)
	size := headerBase
	set := func(key, value string) {
		values = append(values, value)
		header[key] = values[len(values)-1 : len(values) : len(values)]
		size += len(key) + len(value) + headerLine
	}
	for key, value := range msg.Metadata {
		if strings.HasPrefix(key, brokerPrefix) || key == headerUUID {
			continue
		}
		if !validKey(key) {
			return letter{}, fmt.Errorf("metadata %q cannot be a header", key)
		}
		set(key, value)
	}
	switch {
	case msg.UUID == "":
	case dedupe:
		set(natsjs.MsgIDHeader, msg.UUID)
	default:
		set(headerUUID, msg.UUID)
	}
	if size > maxHeader-batchRoom {
		return letter{}, fmt.Errorf("%w: %d bytes of headers", ErrTooLarge, size)
	}
	return letter{
		msg:  &nats.Msg{Subject: subject, Header: header, Data: msg.Payload},
		size: size + len(msg.Payload),
	}, nil
}

// Received makes the Watermill message of one that came without a stream. Of the headers that tell the broker what to
// do, only the Nats-Msg-Id passes, as the UUID; headers that no publisher can send are dropped.
func Received(m *nats.Msg) *message.Message {
	msg := decode(m)
	for key := range msg.Metadata {
		if !validKey(key) {
			delete(msg.Metadata, key)
		}
	}
	return msg
}

// decode makes the Watermill message: of a header with several values, they are joined by commas.
func decode(m *nats.Msg) *message.Message {
	msg := message.NewMessage(m.Header.Get(natsjs.MsgIDHeader), m.Data)
	for key, values := range m.Header {
		switch {
		case len(values) == 0 || strings.HasPrefix(key, brokerPrefix):
		case key == headerUUID:
			if msg.UUID == "" {
				msg.UUID = values[0]
			}
		case len(values) == 1:
			msg.Metadata[key] = values[0]
		default:
			msg.Metadata[key] = strings.Join(values, ",")
		}
	}
	return msg
}

// validKey says whether nats.go takes a header's name. One that it does not would fail the batch of many.
func validKey(key string) bool {
	for i := range len(key) {
		if c := key[i]; c <= ' ' || c > '~' || strings.IndexByte(`"()/,:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return key != ""
}
