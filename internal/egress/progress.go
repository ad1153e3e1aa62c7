package egress

import (
	"context"
	"sync/atomic"
)

// Progress tells how far a request came on its way to a connection. A deadline that passes says only that it did; but
// whether the receiver is slow or was never reached matters for the verdict. The zero value is ready.
type Progress struct{ stage atomic.Int32 }

// The stages. A request that is given a connection which is there already has none.
const (
	stageResolving int32 = iota + 1
	stageConnecting
	stageConnected
)

type progressKey struct{}

// WithProgress makes a client of NewClient note in p how far the request of this context comes.
func WithProgress(ctx context.Context, p *Progress) context.Context {
	return context.WithValue(ctx, progressKey{}, p)
}

// Class is that of a request which ended here because its time was over: DNS or Connect if no connection came about.
func (p *Progress) Class() Class {
	switch p.stage.Load() {
	case stageResolving:
		return DNS
	case stageConnecting:
		return Connect
	}
	return Timeout
}

// reached notes a stage, if anybody wants to know.
func reached(ctx context.Context, stage int32) {
	if p, ok := ctx.Value(progressKey{}).(*Progress); ok {
		p.stage.Store(stage)
	}
}
