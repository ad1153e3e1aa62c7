package fanout

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/event"
)

// Eraser removes the bytes of events, from the stream as well. The ledger keeps that they were, and the counts.
type Eraser struct {
	EraserDeps
	ledger *Ledger
}

// EraserDeps are what an Eraser works with.
type EraserDeps struct {
	JetStream  natsjs.JetStream
	DB         *sql.DB
	Deliveries Erasing
	// Forget drops an event from what this process keeps in memory.
	Forget func(event uuid.UUID)
}

// Erasing erases what deliver holds; *deliver.Eraser does.
type Erasing interface {
	EraseTenant(ctx context.Context, tenant string) error
	EraseEvent(ctx context.Context, event uuid.UUID) error
	EraseEvents(ctx context.Context, events []uuid.UUID) error
	CountTenant(ctx context.Context, tenant string) (int64, error)
}

// NewEraser makes an Eraser.
func NewEraser(deps EraserDeps) *Eraser { return &Eraser{EraserDeps: deps, ledger: NewLedger(deps.DB)} }

const (
	// eventPatience is how long the erasure of one event waits for deliveries that are under way.
	eventPatience = 5 * time.Second
)

// settled returns when the ledger has all work that was under way.
func (e *Eraser) settled(ctx context.Context, patience time.Duration) error {
	return NewSettling(e.JetStream).wait(ctx, patience)
}

// Register adds the erasing of one event to an API.
func (e *Eraser) Register(to huma.API) {
	api.Register(to, e.eraseData, "events:write", huma.Operation{
		OperationID: "erase-event-data", Method: http.MethodDelete, Path: "/v1/events/{id}/data", Tags: []string{"Events"},
		Summary: "Erase an event's data",
		Description: "Its bytes and what receivers answered are removed, from the stream as well; pending deliveries are cancelled. " +
			"That the event was, and what became of it, stays. 503 says that all was removed, but attempts were under way that may " +
			"bring back an answer: ask once more.",
		DefaultStatus: http.StatusNoContent,
		Errors:        []int{http.StatusNotFound, http.StatusServiceUnavailable},
	})
}

func (e *Eraser) eraseData(ctx context.Context, in *getInput) (*struct{}, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return nil, err
	}
	if event.CheckID(in.ID) != nil {
		return nil, api.NotFound()
	}
	row, err := e.ledger.get(ctx, tenant, in.ID)
	if errors.Is(err, errNoEvent) {
		return nil, api.NotFound()
	}
	if err != nil {
		return nil, err
	}
	// Slow attempts have rows, which are cancelled; what they bring back is void. The others are waited for.
	unsettled := e.settled(ctx, eventPatience)
	if err := e.eraseEvent(ctx, row); err != nil {
		return nil, err
	}
	if unsettled != nil {
		return nil, api.Unavailable(unsettled)
	}
	return nil, nil
}

// eraseEvent removes the bytes. Pending deliveries are cancelled first: they would find nothing to send.
func (e *Eraser) eraseEvent(ctx context.Context, row Recorded) error {
	if err := e.Deliveries.EraseEvent(ctx, row.UID); err != nil {
		return err
	}
	stream, err := e.JetStream.Stream(ctx, Stream)
	if err != nil {
		return fmt.Errorf("erase event %s: %w", row.ID, err)
	}
	// The place may be another event's, if the stream was lost and made anew.
	raw, err := stored(ctx, stream, row.Seq)
	if err == nil {
		if found, refusal := event.Decode(event.Stored(raw)); refusal == nil && found.As(row.UID) != nil {
			err = stream.SecureDeleteMsg(ctx, row.Seq)
		}
	}
	if err != nil && !errors.Is(err, ErrGone) && !errors.Is(err, natsjs.ErrMsgNotFound) {
		return fmt.Errorf("erase event %s: %w", row.ID, err)
	}
	if err := e.ledger.SetErased(ctx, row.UID); err != nil {
		return err
	}
	e.Forget(row.UID)
	return nil
}

var _ Erasing = (*ledger.Eraser)(nil)
