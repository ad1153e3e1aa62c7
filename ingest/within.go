package ingest

import (
	"context"
	"fmt"
	"runtime/debug"
)

// within returns what do returns, or the end of the context if that comes first. It is for what goes through a
// group: who leads a group's commit stays with it to its end, which is later than the caller may wait. What is left
// behind ends by itself, and nobody looks at what it wrote.
func within[T any](ctx context.Context, do func() (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	ended := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			if cause := recover(); cause != nil {
				o.err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
			}
			ended <- o
		}()
		o.value, o.err = do()
	}()
	select {
	case o := <-ended:
		return o.value, o.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}
