package chaos_test

import (
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy stands between a process and a server that it uses. It partitions the two.
type proxy struct {
	network, server string
	listener        net.Listener
	done            sync.WaitGroup
	latency         atomic.Int64 // nanoseconds that each read takes longer

	mu     sync.Mutex
	open   map[net.Conn]bool
	gates  [2]*gate // from the process and to it
	closed bool
}

// gate lets bytes pass or holds them.
type gate struct {
	mu   sync.Mutex
	free *sync.Cond
	shut bool
}

func newGate() *gate {
	g := &gate{}
	g.free = sync.NewCond(&g.mu)
	return g
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	g.shut = shut
	g.mu.Unlock()
	g.free.Broadcast()
}

// pass waits while the gate is shut.
func (g *gate) pass() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.shut {
		g.free.Wait()
	}
}

// newProxy listens on loopback and forwards to a server. It ends with the test.
func newProxy(t testing.TB, network, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{network: network, server: server, listener: l, open: map[net.Conn]bool{}, gates: [2]*gate{newGate(), newGate()}}
	p.done.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return // It is closed.
		}
		p.done.Go(func() { p.forward(c) })
	}
}

func (p *proxy) forward(from net.Conn) {
	defer p.drop(from)
	if !p.keep(from) {
		return
	}
	p.gates[0].pass() // A new connection's packets are dropped as well.
	p.mu.Lock()
	server := p.server
	p.mu.Unlock()
	to, err := net.Dial(p.network, server)
	if err != nil {
		reset(from)
		return
	}
	defer p.drop(to)
	if !p.keep(to) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.copy(to, from, p.gates[0]) })
	both.Go(func() { p.copy(from, to, p.gates[1]) })
	both.Wait()
}

// copy forwards one direction until either side ends, and then ends the other.
func (p *proxy) copy(to, from net.Conn, g *gate) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		g.pass()
		time.Sleep(time.Duration(p.latency.Load()))
		if failed := p.write(to, buf[:n]); failed != nil {
			err = failed
		}
		if err != nil {
			if err != io.EOF {
				reset(to)
				reset(from)
			}
			p.drop(to)
			p.drop(from)
			return
		}
	}
}

// write forwards what was read at once, in small pieces while the proxy is slow.
func (p *proxy) write(to net.Conn, data []byte) error {
	piece := len(data)
	if p.latency.Load() > 0 {
		piece = 100
	}
	for part := range slices.Chunk(data, max(piece, 1)) {
		if _, err := to.Write(part); err != nil {
			return err
		}
	}
	return nil
}

func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.open[c] = true
	return true
}

func (p *proxy) drop(c net.Conn) {
	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
	_ = c.Close()
}

// partition drops what the process sends, what it is sent, or both.
func (p *proxy) partition(sent, received bool) {
	p.gates[0].set(sent)
	p.gates[1].set(received)
}

func (p *proxy) heal() { p.partition(false, false) }

// move makes connections go to another server from now on, and cuts those that are open.
func (p *proxy) move(server string) {
	p.mu.Lock()
	p.server = server
	p.mu.Unlock()
	p.cut()
}

// cut resets all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		reset(c)
		_ = c.Close()
	}
}

func (p *proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.heal()
	p.cut()
	p.done.Wait()
}

// reset makes the close of a connection a TCP reset.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}
