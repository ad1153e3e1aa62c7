package survive_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/survive"
)

var errOwn = errors.New("its own")

func TestDo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   func() error
		want error
	}{
		{"nothing", func() error { return nil }, nil},
		{"error", func() error { return errOwn }, errOwn},
		{"panic", func() error { panic("boom") }, survive.ErrPanicked},
	} {
		if err := survive.Do(tt.do); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
	err := survive.Do(func() error { panic("boom") })
	if !strings.Contains(err.Error(), "boom") || !strings.Contains(err.Error(), "survive_test.go") {
		t.Errorf("the error tells neither what nor where: %v", err)
	}
}

// A loop that panics is run again, and its error is returned.
func TestLoopRunsAgain(t *testing.T) {
	t.Parallel()
	runs := 0
	err := survive.Loop(t.Context(), slog.New(slog.DiscardHandler), "test", func(context.Context) error {
		runs++
		if runs == 1 {
			panic("boom")
		}
		return errOwn
	})
	if !errors.Is(err, errOwn) || runs != 2 {
		t.Errorf("got %v after %d runs", err, runs)
	}
}

// A loop that panics is not run again once its context has ended.
func TestLoopEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	err := survive.Loop(ctx, slog.New(slog.DiscardHandler), "test", func(context.Context) error {
		cancel()
		panic("boom")
	})
	if err != nil {
		t.Error(err)
	}
}
