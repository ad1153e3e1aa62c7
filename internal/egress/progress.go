package egress

import (
	"context"
	"crypto/tls"
	"net"
	"net/http/httptrace"
	"net/netip"
	"sync"
	"time"
)

// Progress notes how far a request came on its way to its receiver, by which connection, and how long each step took. A deadline
// that passes says only that it did; but whether the receiver is slow or was never reached matters for the verdict. The zero
// value is ready. A dial may go on after its request has ended, so it is safe for concurrent use.
type Progress struct {
	mu    sync.Mutex
	stage stage

	// When steps began or ended; zero for those that have not.
	resolving, connecting, dialed time.Time
	securing, secured             time.Time
	sending, answered             time.Time

	remote netip.AddrPort
	reused bool
}

// stage is how far a request came. A request that is given a connection which is there already has none.
type stage int

const (
	stageResolving stage = iota + 1
	stageConnecting
	stageConnected
)

type progressKey struct{}

// WithProgress makes a client of NewClient note in p how far the request of this context comes.
func WithProgress(ctx context.Context, p *Progress) context.Context {
	return context.WithValue(ctx, progressKey{}, p)
}

// progressOf is the Progress of a context; nil is none, which notes nothing.
func progressOf(ctx context.Context) *Progress {
	p, _ := ctx.Value(progressKey{}).(*Progress)
	return p
}

// Class is that of a request which ended here because its time was over: DNS or Connect if no connection came about.
func (p *Progress) Class() Class {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.sending.IsZero(): // What is dialed still is for later requests.
	case p.stage == stageResolving:
		return DNS
	case p.stage == stageConnecting:
		return Connect
	}
	return Timeout
}

// Connection says whether a request had a connection of its own.
type Connection string

// The kinds of connections; empty is none.
const (
	NewConnection    Connection = "new"
	ReusedConnection Connection = "reused"
)

// Exchange is how a request went: by which connection, and how long each of its steps took. A step that did not happen is 0, one
// that was broken off lasted until then.
type Exchange struct {
	Remote     netip.AddrPort // of the receiver; not valid without a connection, and behind an egress proxy
	Connection Connection
	DNS        time.Duration // not of an address
	Connect    time.Duration
	TLS        time.Duration
	FirstByte  time.Duration // from a connection to the first byte of the answer
}

// Exchange is how the request went so far. Of a request that was made again it is the last one.
func (p *Progress) Exchange() Exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := Exchange{Remote: p.remote, FirstByte: step(p.sending, p.answered)}
	switch {
	case p.reused:
		e.Connection = ReusedConnection
		return e
	case p.stage == stageConnected || !p.sending.IsZero():
		e.Connection = NewConnection
	}
	now := time.Now()
	if !p.sending.IsZero() {
		if p.stage != stageConnected || p.dialed.After(p.sending) {
			return e // The connection was dialed for another request, which no longer needed it.
		}
		now = p.sending
	}
	e.DNS = step(p.resolving, first(p.connecting, p.dialed, now))
	e.Connect = step(p.connecting, first(p.dialed, now))
	e.TLS = step(p.securing, first(p.secured, now))
	return e
}

// first is the first of some times that has come.
func first(times ...time.Time) time.Time {
	for _, t := range times {
		if !t.IsZero() {
			return t
		}
	}
	return time.Time{}
}

// step is how long a step took; 0 for one that did not begin or end.
func step(from, to time.Time) time.Duration {
	if from.IsZero() || to.IsZero() {
		return 0
	}
	return max(to.Sub(from), time.Microsecond)
}

// note changes p under its lock; of nil it does nothing.
func (p *Progress) note(change func()) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// seek notes that the request needs a connection, and has none of those that it may have had.
func (p *Progress) seek() {
	p.note(func() { p.sending, p.answered, p.remote, p.reused = time.Time{}, time.Time{}, netip.AddrPort{}, false })
}

// dial notes that a receiver is about to be dialed, and whether its name must be resolved.
func (p *Progress) dial(resolves bool) {
	p.note(func() {
		p.stage, p.resolving, p.connecting, p.dialed = stageResolving, time.Time{}, time.Time{}, time.Time{}
		p.securing, p.secured = time.Time{}, time.Time{}
		if resolves {
			p.resolving = time.Now()
		}
	})
}

// connect notes that an address is connected to. The first one counts: others may still be tried when that has answered.
func (p *Progress) connect() {
	p.note(func() {
		if p.stage == stageResolving {
			p.stage, p.connecting = stageConnecting, time.Now()
		}
	})
}

// done notes how dialing ended. Of a blocked address only the name was resolved.
func (p *Progress) done(conn net.Conn, blocked bool) {
	p.note(func() {
		p.dialed = time.Now()
		if blocked {
			p.dialed, p.connecting = first(p.connecting, p.dialed), time.Time{}
		}
		if conn == nil {
			return
		}
		if p.stage = stageConnected; p.sending.IsZero() { // else it is for later requests
			p.remote = addressOf(conn)
		}
	})
}

// tunnel notes that a proxy is asked to connect to the receiver, and open that it did.
func (p *Progress) tunnel() { p.note(func() { p.stage = stageConnecting }) }
func (p *Progress) open()   { p.note(func() { p.stage, p.dialed = stageConnected, time.Now() }) }

// secure notes that TLS begins, and ends.
func (p *Progress) secure() { p.note(func() { p.securing = time.Now() }) }
func (p *Progress) safe()   { p.note(func() { p.secured = time.Now() }) }

// send notes that the request has a connection.
func (p *Progress) send(remote netip.AddrPort, reused bool) {
	p.note(func() { p.sending, p.answered, p.remote, p.reused = time.Now(), time.Time{}, remote, reused })
}

// answer notes when the first byte of the answer came.
func (p *Progress) answer(at time.Time) { p.note(func() { p.answered = at }) }

// traced makes net/http note in the Progress of a context, if it has one, what it does. Hidden keeps the addresses of connections
// back, which are those of a proxy.
func traced(ctx context.Context, hidden bool) context.Context {
	p := progressOf(ctx)
	if p == nil {
		return ctx
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { p.seek() },
		GotConn: func(info httptrace.GotConnInfo) {
			var remote netip.AddrPort
			if !hidden {
				remote = addressOf(info.Conn)
			}
			p.send(remote, info.Reused)
		},
		TLSHandshakeStart:    p.secure,
		TLSHandshakeDone:     func(tls.ConnectionState, error) { p.safe() },
		GotFirstResponseByte: func() { p.answer(time.Now()) },
	})
}

// addressOf is the address of a connection's other side.
func addressOf(conn net.Conn) netip.AddrPort {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		at := tcp.AddrPort()
		return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
	}
	return netip.AddrPort{}
}

// isLiteral says whether host:port names an address, so that nothing is resolved.
func isLiteral(address string) bool {
	_, err := netip.ParseAddrPort(address)
	return err == nil
}
