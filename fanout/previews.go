package fanout

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/fair"
)

// previewWait is how long a preview waits for its place.
const previewWait = 10 * time.Second

// errPreviews says that too many previews are under way.
var errPreviews = errors.New("too many previews are under way")

// previews bounds how many previews of all tenants run at once: each reads up to 100,000 events and runs a filter on them. There
// is one a core, which rests most of the time, and tenants take turns. How many a tenant asks for at once is a quota.
type previews struct{ places *fair.Places }

func newPreviews() previews { return previews{fair.NewPlaces(runtime.GOMAXPROCS(0))} }

// enter waits for a place. The error is a 503 where none was free in time.
func (p previews) enter(ctx context.Context, tenant string) (leave func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, previewWait)
	defer cancel()
	leave, err = p.places.Enter(waiting, tenant)
	if err != nil {
		return nil, api.Unavailable(errPreviews)
	}
	return leave, nil
}
