package throttle

import (
	"context"
	"net"
	"sync"
	"time"
)

// By what a worker tells an outage of its own network from receivers that are away.
const (
	// outageHosts that cannot be reached, with an answer from nobody since the first, make an outage.
	outageHosts = 5
	// evidenceTime is how long a failure to connect waits for what tells: an answer from anybody, or others that fail too.
	evidenceTime = time.Second
	// outageProbe is how often one delivery is tried while there is an outage.
	outageProbe = time.Second
	// Others come back after a time between outageLeast and twice outageMost, the later the longer it lasts.
	outageLeast = 5 * time.Second
	outageMost  = 30 * time.Second
)

// network knows whether this worker reaches anybody at all. A failure to connect is the receiver's only if others can
// be reached: in an outage of our own it costs no attempt, opens no breaker and disables nobody.
type network struct {
	now    func() time.Time
	random func() float64
	told   func(down bool)

	mu      sync.Mutex
	silent  map[string]bool // hosts that could not be reached since anybody answered
	down    bool
	since   time.Time
	probed  time.Time
	changed chan struct{} // closed when somebody answers or the outage is noticed
}

func newNetwork(now func() time.Time, random func() float64, told func(down bool)) *network {
	return &network{now: now, random: random, told: told, silent: make(map[string]bool), changed: make(chan struct{})}
}

// answered notes that somebody could be reached.
func (n *network) answered() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.silent) == 0 && !n.down {
		return
	}
	clear(n.silent)
	if n.down {
		n.down = false
		n.told(false)
	}
	n.wake()
}

func (n *network) wake() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// excuses judges a result: true says that not the receiver is away but we are. It may take evidenceTime to tell.
func (n *network) excuses(ctx context.Context, host string, r Result) bool {
	switch r.Connection {
	case Reached:
		n.answered()
		return false
	case Silent:
		return n.isDown()
	case Untried:
		return false
	}
	changed, down := n.missed(host)
	if down {
		return true
	}
	timer := time.NewTimer(evidenceTime)
	defer timer.Stop()
	select {
	case <-changed:
		return n.isDown()
	case <-timer.C:
		return false
	case <-ctx.Done():
		return false
	}
}

// missed notes a host that could not be reached. What it returns is closed when there is more to tell.
func (n *network) missed(host string) (changed <-chan struct{}, down bool) {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name // Many ports of one machine prove no more than one.
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.silent) == 0 {
		n.since = n.now()
	}
	if len(n.silent) < outageHosts {
		n.silent[host] = true
	}
	if len(n.silent) >= outageHosts && !n.down {
		if n.now().Sub(n.since) > outageMost {
			// They failed one now and then, which proves nothing; only what fails together does.
			clear(n.silent)
			n.silent[host], n.since = true, n.now()
			return n.changed, false
		}
		n.down = true
		n.told(true)
		n.wake()
	}
	return n.changed, n.down
}

func (n *network) isDown() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.down
}

// admit lets a delivery be tried now and then while there is an outage; the others are put off.
func (n *network) admit() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.down {
		return nil
	}
	if now := n.now(); now.Sub(n.probed) >= outageProbe {
		n.probed = now
		return nil
	}
	return Refusal{Wait: n.pause(), Reason: Connect}
}

// pause is after how long to come back while there is an outage.
func (n *network) pause() time.Duration {
	base := min(max(n.now().Sub(n.since)/2, outageLeast), outageMost)
	return base + time.Duration(n.random()*float64(base))
}

// excuse returns after how long to repeat an attempt that failed because of an outage.
func (n *network) excuse() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pause()
}
