package fair

import (
	"context"
	"errors"
	"time"
)

// Room bounds how many costly requests of all tenants run at once in a process, and how long one waits for its place. A nil
// Room bounds nothing.
type Room struct {
	places *Places
	wait   time.Duration
}

// NewRoom makes a Room of n places.
func NewRoom(n int, wait time.Duration) *Room { return &Room{NewPlaces(n), wait} }

// Enter waits for a place and returns the function that gives it back. The error reports itself as unavailable, which the API
// answers with 503, where none was free in time.
func (r *Room) Enter(ctx context.Context, tenant string) (leave func(), err error) {
	if r == nil {
		return func() {}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	if leave, err = r.places.Enter(ctx, tenant); err != nil {
		return nil, busy{errors.New("too many costly requests are under way")}
	}
	return leave, nil
}

// busy is the error of a request that found no place.
type busy struct{ error }

func (busy) Unavailable() bool { return true }
