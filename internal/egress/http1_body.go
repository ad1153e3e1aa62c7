package egress

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
)

// http1Body is the body of a response. It gives the connection back when it ends. It may be closed while it is read.
type http1Body struct {
	from     io.Reader
	conn     *http1Conn
	ctx      context.Context // of the request, stored as in net/http: Read has no parameter for it
	reusable bool
	over     atomic.Bool // the connection is no longer this body's
	err      error       // how reading ended
}

// Read reads on, until the body or the request's context ends.
func (b *http1Body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.over.Load() {
		return 0, b.ended()
	}
	n, err := b.from.Read(p)
	if err == nil {
		return n, nil
	}
	if !errors.Is(err, io.EOF) && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	b.err = err
	b.end(b.reusable && errors.Is(err, io.EOF))
	return n, err
}

// ended is what Read says where the connection was given up before it was called.
func (b *http1Body) ended() error {
	if b.from == http.NoBody {
		return io.EOF
	}
	return http.ErrBodyReadAfterClose
}

// Close closes the connection too, unless the body was read to its end.
func (b *http1Body) Close() error {
	b.end(false)
	return nil
}

// end gives the connection up, once.
func (b *http1Body) end(reusable bool) {
	if !b.over.CompareAndSwap(false, true) {
		return
	}
	if reusable && b.conn.spent() {
		b.conn.idle.put(b.conn)
		return
	}
	_ = b.conn.Close()
}
