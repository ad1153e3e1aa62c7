package tenantkeys

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// Message is what quarantine keeps of a message of a tenant, "" if that is not known. Fan-out and deliver both write them.
type Message struct {
	Tenant string
	ID     uuid.UUID // its key in quarantine
	Detail string    // it may quote the data
	Data   []byte
	Sealed bool // Detail and Data are sealed
}

// The words for the sealed parts of a message.
const (
	messageDetail = "quarantine detail"
	messageData   = "quarantine data"
)

// SealMessage seals detail and data. Of an erased tenant both are emptied.
func (k *Keys) SealMessage(ctx context.Context, m *Message) (err error) {
	if m.Data == nil {
		m.Data = []byte{} // The column holds no null.
	}
	if k == nil {
		return nil
	}
	detail, err := k.SealText(ctx, Place{m.Tenant, m.ID, messageDetail}, m.Detail)
	var data []byte
	if err == nil {
		data, err = k.Seal(ctx, Place{m.Tenant, m.ID, messageData}, m.Data)
	}
	if errors.Is(err, ErrDestroyed) {
		m.Detail, m.Data = "", []byte{}
		return nil
	}
	if err != nil {
		return fmt.Errorf("seal message %s: %w", m.ID, err)
	}
	m.Detail, m.Data, m.Sealed = detail, data, true
	return nil
}

// OpenMessage opens what SealMessage sealed. What cannot be opened any more is empty.
func (k *Keys) OpenMessage(ctx context.Context, m *Message) (err error) {
	if !m.Sealed {
		return nil
	}
	if m.Detail, err = k.OpenText(ctx, Place{m.Tenant, m.ID, messageDetail}, m.Detail); err == nil || Gone(err) {
		m.Data, err = k.Open(ctx, Place{m.Tenant, m.ID, messageData}, m.Data)
	}
	if err != nil && !Gone(err) {
		return fmt.Errorf("open message %s: %w", m.ID, err)
	}
	m.Sealed = false
	return nil
}
