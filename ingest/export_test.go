package ingest

import (
	"context"
	"net/http"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/event"
)

// Read reads a request's events, for tests from outside.
func Read(h http.Header, body []byte, maxEvents int) (events []event.Event, problems []*api.Problem, err error) {
	req, err := read(h, body, maxEvents)
	if err != nil {
		return nil, nil, err
	}
	for _, it := range req.items {
		events, problems = append(events, it.event), append(problems, it.problem)
	}
	return events, problems, nil
}

// Full says whether requests under way take all the room that a tenant may have.
func (in *Ingest) Full(tenant string) bool {
	in.door.mu.Lock()
	defer in.door.mu.Unlock()
	return int64(in.door.share(tenant, in.door.total))-in.door.used[tenant] < weight(0)
}

// Door is the bound of the memory of requests under way.
type Door struct{ door *door }

// NewDoor makes a Door of so many bytes.
func NewDoor(bytes int64) Door { return Door{newDoor(Config{Memory: bytes, MaxWaiting: 1000})} }

// Enter waits for room of so many bytes.
func (d Door) Enter(ctx context.Context, tenant string, bytes int64, small bool) error {
	return d.door.enter(ctx, tenant, bytes, small)
}

// Leave gives room back.
func (d Door) Leave(tenant string, bytes int64) { d.door.leave(tenant, bytes) }

// MaxOvertaken is how many small requests may go before a large one that waits.
const MaxOvertaken = maxOvertaken
