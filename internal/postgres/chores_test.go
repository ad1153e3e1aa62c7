package postgres_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

func TestAChoreIsDoneByOneAndGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	var doing, most int
	places := make(chan time.Time, 1000)
	chore := postgres.Chore{Name: "test", Every: 5 * time.Millisecond, Do: func(_ context.Context, place time.Time) (time.Time, error) {
		mu.Lock()
		doing++
		most = max(most, doing)
		mu.Unlock()
		defer func() { mu.Lock(); doing--; mu.Unlock() }()
		places <- place
		if place.IsZero() {
			return begin, errors.New("the place is kept also when the work fails")
		}
		return place.Add(time.Second), nil
	}}
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range 3 {
		running.Go(func() {
			if err := postgres.RunChore(ctx, db, slog.New(slog.DiscardHandler), chore); err != nil {
				t.Error(err)
			}
		})
	}
	for i := range 10 {
		want := begin.Add(time.Duration(i-1) * time.Second)
		if i == 0 {
			want = time.Time{}
		}
		if got := <-places; !got.Equal(want) {
			t.Errorf("turn %d begins at %s, want %s", i, got, want)
		}
	}
	cancel()
	running.Wait()
	if most != 1 {
		t.Errorf("%d did the chore at once", most)
	}
	// Whoever stopped left it to others at once.
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	for len(places) > 0 {
		<-places
	}
	running.Go(func() { _ = postgres.RunChore(ctx, db, slog.New(slog.DiscardHandler), chore) })
	<-places
	cancel()
	running.Wait()
}

// A chore that panics failed, and is done again.
func TestAChoreThatPanicsIsDoneAgain(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	turns := 0
	err := postgres.RunChore(ctx, db, slog.New(slog.DiscardHandler), postgres.Chore{
		Name: "panics", Every: time.Millisecond, Do: func(_ context.Context, place time.Time) (time.Time, error) {
			turns++
			if turns == 1 {
				panic("boom")
			}
			cancel()
			return place, nil
		},
	})
	if err != nil || turns != 2 {
		t.Errorf("got %v after %d turns", err, turns)
	}
}
