package deliver

import "context"

// stages are the three stages of stopping, each a context that ends: nothing new begins; attempts are broken off; nothing is
// waited for any more. They outlive the context of Run, which only asks for the first.
//
//	Run's context ends ─▶ draining ends ── DrainTimeout ─▶ hard ends ── commitGrace ─▶ abandoned ends
type stages struct {
	draining, hard, abandoned context.Context //nolint:containedctx // the stages of one Run, which ends them
	drain, stop, abandon      context.CancelCauseFunc
}

func newStages(ctx context.Context) (s stages) {
	ctx = context.WithoutCancel(ctx)
	s.draining, s.drain = context.WithCancelCause(ctx)
	s.hard, s.stop = context.WithCancelCause(ctx)
	s.abandoned, s.abandon = context.WithCancelCause(ctx)
	return s
}
