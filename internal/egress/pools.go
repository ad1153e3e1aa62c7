package egress

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// poolsKept is how many tenants have a transport at a time. An empty one takes about 2 KiB.
const poolsKept = 4096

type tenantKey struct{}

// WithTenant makes the requests of a context use connections of this tenant alone. HTTP/1.1 does not say which request a
// response belongs to: a receiver that answers twice would otherwise answer another tenant's request.
func WithTenant(ctx context.Context, tenant string) context.Context {
	return context.WithValue(ctx, tenantKey{}, tenant)
}

func tenantOf(ctx context.Context) string {
	tenant, _ := ctx.Value(tenantKey{}).(string)
	return tenant
}

// pools keeps a transport of net/http for each tenant, and replaces it when it reaches its age: net/http closes a connection
// only while it is unused, so that one in steady use would outlive every change of the receiver's addresses.
type pools struct {
	fresh func() *http.Transport
	age   time.Duration
	most  int64 // open connections of all tenants, above which unused ones are closed
	open  atomic.Int64

	mu   sync.Mutex
	kept *simplelru.LRU[string, *pool]
}

// pool is the transport of one tenant. No request is sent by it after until.
type pool struct {
	*http.Transport
	until time.Time
}

// newPools makes pools of transports like the template, each with a copy of its TLS settings.
func newPools(template *http.Transport, cfg Config) *pools {
	p := &pools{age: cfg.MaxConnAge, most: int64(cfg.MaxIdleConns)}
	dial := template.DialContext
	template.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if p.open.Add(1) > p.most {
			p.makeRoom()
		}
		return &countedConn{Conn: conn, open: &p.open}, nil
	}
	p.fresh = func() *http.Transport {
		t := template.Clone()
		if err := replaceHTTP2(t); err != nil {
			// It cannot fail on a fresh transport. Should it ever, HTTP/1.1 has none of the faults.
			t.ForceAttemptHTTP2 = false
		}
		return t
	}
	kept, err := simplelru.NewLRU(poolsKept, func(_ string, dropped *pool) { dropped.retire() })
	if err != nil {
		panic(err) // only for a size below 1
	}
	p.kept = kept
	return p
}

// of returns the transport of a tenant.
func (p *pools) of(tenant string) *http.Transport {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	kept, ok := p.kept.Get(tenant)
	if ok && now.Before(kept.until) {
		return kept.Transport
	}
	p.kept.Remove(tenant)
	made := &pool{Transport: p.fresh(), until: now.Add(jittered(p.age))}
	p.kept.Add(tenant, made)
	return made.Transport
}

// makeRoom drops the pool that was not used for longest, unless it is the only one, whose own bound is enough.
func (p *pools) makeRoom() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept.Len() > 1 {
		p.kept.RemoveOldest()
	}
}

// closeIdle closes all unused connections.
func (p *pools) closeIdle() {
	p.mu.Lock()
	kept := p.kept.Values()
	p.mu.Unlock()
	for _, each := range kept {
		each.CloseIdleConnections()
	}
}

// retire closes the pool's connections, those in use when they become unused. It does not wait: closing TLS may take
// seconds where a receiver does not read.
func (p *pool) retire() { go p.CloseIdleConnections() }

// jittered shortens an age by up to a fifth, so that connections made together are not replaced together.
func jittered(age time.Duration) time.Duration { return age - rand.N(age/5+1) }

// countedConn is an open connection.
type countedConn struct {
	net.Conn
	open   *atomic.Int64
	closed atomic.Bool
}

// Close may be called several times.
func (c *countedConn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		c.open.Add(-1)
	}
	return c.Conn.Close()
}
