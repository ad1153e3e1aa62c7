package survive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

// ErrPanicked marks an error that was a panic.
var ErrPanicked = errors.New("panicked")

// Do returns the error of f, or its panic as an error with the stack.
func Do(f func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%w: %v\n%s", ErrPanicked, cause, debug.Stack())
		}
	}()
	return f()
}

// pause is how long a loop rests after it panicked: what it panicked at is probably still there.
const pause = time.Second

// Loop runs a loop and returns its error. When the loop panics it is run again, until ctx ends.
func Loop(ctx context.Context, log *slog.Logger, name string, run func(context.Context) error) error {
	for {
		err := Do(func() error { return run(ctx) })
		if !errors.Is(err, ErrPanicked) {
			return err
		}
		log.ErrorContext(ctx, "background work panicked", "work", name, "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}
