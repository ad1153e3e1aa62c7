package deliver

import (
	"context"
	"time"
)

// The context of a run ends when nothing new is to begin. It carries two others that outlive it: attempts in flight may end
// within Config.DrainTimeout and are then broken off, and their outcomes have commitGrace more to reach the disk.
//
//	Run's context ends ─▶ the run's ends ── DrainTimeout ─▶ attempting's ends ── commitGrace ─▶ recording's ends
type stage int

const (
	attempts stage = iota
	records
)

// attempting returns the context of attempts that a run has begun.
func attempting(run context.Context) context.Context { return attempts.in(run) }

// recording returns the context of writing what became of a run's deliveries.
func recording(run context.Context) context.Context { return records.in(run) }

func (s stage) in(run context.Context) context.Context {
	if ctx, ok := run.Value(s).(context.Context); ok {
		return ctx
	}
	return run
}

// commitGrace is how long outcomes may take to reach the disk after the last attempt ended.
const commitGrace = 2 * time.Second

// stages begin the stages of stopping a run.
type stages struct{ drain, stop, abandon func() }

// newRun returns the context of a run. It has the values of ctx, but does not end with it.
func newRun(ctx context.Context) (context.Context, stages) {
	ctx = context.WithoutCancel(ctx)
	recording, abandon := context.WithCancelCause(ctx)
	attempting, stop := context.WithCancelCause(ctx)
	run, drain := context.WithCancelCause(ctx)
	run = context.WithValue(context.WithValue(run, attempts, attempting), records, recording)
	return run, stages{
		drain:   func() { drain(errStopping) },
		stop:    func() { stop(errStopping) },
		abandon: func() { abandon(errStopping) },
	}
}

// begin begins the first stage now and each of the others when its time has come, unless all has ended by then.
func (s stages) begin(run context.Context, drainTimeout time.Duration) {
	s.drain()
	after := func(d time.Duration, next func()) {
		timer := time.AfterFunc(d, next)
		context.AfterFunc(recording(run), func() { timer.Stop() })
	}
	after(drainTimeout, func() {
		s.stop()
		after(commitGrace, s.abandon)
	})
}

// end ends all of a run.
func (s stages) end() {
	s.drain()
	s.stop()
	s.abandon()
}
