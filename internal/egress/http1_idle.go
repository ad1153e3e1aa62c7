package egress

import (
	"container/list"
	"slices"
	"sync"
	"time"
)

// lookEvery is how often kept connections are looked at, whether the other side has closed them.
const lookEvery = 5 * time.Second

// idleConns keeps the connections that nobody uses: so many in all, so many to a destination, and each for so long.
type idleConns struct {
	most, mostEach int
	timeout        time.Duration

	mu      sync.Mutex
	to      map[destination][]*idleConn // the one that was used last at the end
	order   list.List                   // of *idleConn, by when they were used
	looking *time.Timer                 // nil while there are none
}

type idleConn struct {
	*http1Conn
	since time.Time
	place *list.Element
}

func newIdleConns(most, mostEach int, timeout time.Duration) *idleConns {
	return &idleConns{most: most, mostEach: mostEach, timeout: timeout, to: make(map[destination][]*idleConn)}
}

// take returns the connection to a destination that was used last, or nil.
func (i *idleConns) take(to destination) *http1Conn {
	i.mu.Lock()
	defer i.mu.Unlock()
	kept := i.to[to]
	if len(kept) == 0 {
		return nil
	}
	last := kept[len(kept)-1]
	i.remove(last)
	return last.http1Conn
}

// put keeps a connection, or closes it, or another one that was not used for longer.
func (i *idleConns) put(c *http1Conn) {
	i.mu.Lock()
	surplus := c
	if len(i.to[c.to]) < i.mostEach {
		surplus = nil
		if i.order.Len() == i.most {
			oldest := i.order.Front().Value.(*idleConn)
			i.remove(oldest)
			surplus = oldest.http1Conn
		}
		kept := &idleConn{http1Conn: c, since: time.Now()}
		kept.place = i.order.PushBack(kept)
		i.to[c.to] = append(i.to[c.to], kept)
		i.lookAgain()
	}
	i.mu.Unlock()
	if surplus != nil {
		_ = surplus.Close()
	}
}

// remove forgets a connection. It needs the lock.
func (i *idleConns) remove(c *idleConn) {
	i.order.Remove(c.place)
	kept := i.to[c.http1Conn.to]
	at := slices.Index(kept, c)
	if kept = slices.Delete(kept, at, at+1); len(kept) > 0 {
		i.to[c.http1Conn.to] = kept
		return
	}
	delete(i.to, c.http1Conn.to)
}

// look closes what was not used for the timeout, and what the other side has closed.
func (i *idleConns) look() {
	i.mu.Lock()
	var gone []*idleConn
	for at := i.order.Front(); at != nil; {
		c := at.Value.(*idleConn)
		at = at.Next()
		if time.Since(c.since) >= i.timeout || !c.alive() {
			i.remove(c)
			gone = append(gone, c)
		}
	}
	i.looking = nil
	i.lookAgain()
	i.mu.Unlock()
	for _, c := range gone {
		_ = c.Close()
	}
}

// lookAgain sees to it that somebody looks while there is something to look at. It needs the lock.
func (i *idleConns) lookAgain() {
	if i.looking == nil && i.order.Len() > 0 {
		i.looking = time.AfterFunc(min(i.timeout, lookEvery), i.look)
	}
}

// closeAll closes all that are kept now.
func (i *idleConns) closeAll() {
	i.mu.Lock()
	kept := i.to
	i.to = make(map[destination][]*idleConn)
	i.order.Init()
	if i.looking != nil {
		i.looking.Stop()
		i.looking = nil
	}
	i.mu.Unlock()
	for _, each := range kept {
		for _, c := range each {
			_ = c.Close()
		}
	}
}
