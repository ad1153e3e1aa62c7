package fanout

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/internal/api"
)

// Eraser removes the bytes of events, from the stream as well. The ledger keeps that they were, and the counts.
type Eraser struct {
	js         natsjs.JetStream
	db         *sql.DB
	ledger     *Ledger
	deliveries Erasing
}

// Erasing erases what deliver holds; *deliver.Eraser does.
type Erasing interface {
	EraseTenant(ctx context.Context, tenant string) error
	EraseEvent(ctx context.Context, event uuid.UUID) error
}

// NewEraser makes an Eraser.
func NewEraser(js natsjs.JetStream, db *sql.DB, deliveries Erasing) *Eraser {
	return &Eraser{js: js, db: db, ledger: NewLedger(db), deliveries: deliveries}
}

// EraseTenant removes the bytes of all events of a tenant: from the stream, from quarantine, and what deliver kept.
// It may be repeated.
func (e *Eraser) EraseTenant(ctx context.Context, tenant string) error {
	stream, err := e.js.Stream(ctx, Stream)
	if err == nil {
		err = stream.Purge(ctx, natsjs.WithPurgeSubject(subjectPrefix+tenant+".>"))
	}
	if err != nil {
		return fmt.Errorf("erase events of tenant %s: %w", tenant, err)
	}
	if err := e.deliveries.EraseTenant(ctx, tenant); err != nil {
		return err
	}
	for _, statement := range []string{
		`DELETE FROM quarantine WHERE tenant = $1`,
		`DELETE FROM event_keys WHERE tenant = $1`,
		`UPDATE replays SET state = 'cancelled', ended_at = now() WHERE tenant = $1 AND state IN ('counting', 'running', 'paused')`,
		`UPDATE events SET erased_at = now() WHERE tenant = $1 AND erased_at IS NULL`,
	} {
		if _, err := e.db.ExecContext(ctx, statement, tenant); err != nil {
			return fmt.Errorf("erase events of tenant %s: %w", tenant, err)
		}
	}
	return nil
}

// Register adds the erasing of one event to an API.
func (e *Eraser) Register(to huma.API) {
	register(to, e.eraseData, "events:write", huma.Operation{
		OperationID: "erase-event-data", Method: http.MethodDelete, Path: "/v1/events/{id}/data", Tags: []string{"Events"},
		Summary: "Erase an event's data",
		Description: "Its bytes and what receivers answered are removed, from the stream as well; pending deliveries are cancelled. " +
			"That the event was, and what became of it, stays.",
		DefaultStatus: http.StatusNoContent,
		Errors:        []int{http.StatusNotFound, http.StatusServiceUnavailable},
	})
}

func (e *Eraser) eraseData(ctx context.Context, in *getInput) (*struct{}, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return nil, err
	}
	if CheckID(in.ID) != nil {
		return nil, api.NotFound()
	}
	row, err := e.ledger.get(ctx, tenant, in.ID)
	if errors.Is(err, errNoEvent) {
		return nil, api.NotFound()
	}
	if err != nil {
		return nil, err
	}
	return nil, e.eraseEvent(ctx, row)
}

// eraseEvent removes the bytes. Pending deliveries are cancelled first: they would find nothing to send.
func (e *Eraser) eraseEvent(ctx context.Context, row recorded) error {
	if err := e.deliveries.EraseEvent(ctx, row.uid); err != nil {
		return err
	}
	stream, err := e.js.Stream(ctx, Stream)
	if err != nil {
		return fmt.Errorf("erase event %s: %w", row.id, err)
	}
	// The place may be another event's, if the stream was lost and made anew.
	raw, err := stream.GetMsg(ctx, row.seq)
	if err == nil {
		if found, refusal := decode(wireOf(raw)); refusal == nil && found.UID() == row.uid {
			err = stream.SecureDeleteMsg(ctx, row.seq)
		}
	}
	if err != nil && !errors.Is(err, natsjs.ErrMsgNotFound) {
		return fmt.Errorf("erase event %s: %w", row.id, err)
	}
	return (&auditStore{e.db}).setErased(ctx, row.uid)
}

var _ Erasing = (*deliver.Eraser)(nil)
