package api

import "context"

// WithRemoteAddr makes a context in which address (with or without its port) is the peer's, for handlers that stand
// outside of the document and authenticate by themselves: wrong keys are counted by it. See RemoteAddr.
func WithRemoteAddr(ctx context.Context, address string) context.Context {
	next := &request{}
	if r := requestFrom(ctx); r != nil {
		*next = *r
	}
	next.remote = host(address)
	return context.WithValue(ctx, requestKey{}, next)
}
