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
	looking bool                        // or about to
	closing bool                        // what comes back is closed, until another is asked for
}

type idleConn struct {
	*http1Conn
	since time.Time
	place *list.Element // nil once it is not kept any more
}

func newIdleConns(most, mostEach int, timeout time.Duration) *idleConns {
	return &idleConns{most: most, mostEach: mostEach, timeout: timeout, to: make(map[destination][]*idleConn)}
}

// take returns the connection to a destination that was used last, or nil.
func (i *idleConns) take(to destination) *http1Conn {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closing = false
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
	if !i.closing && len(i.to[c.to]) < i.mostEach {
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
	c.place = nil
	kept := i.to[c.http1Conn.to]
	at := slices.Index(kept, c)
	if kept = slices.Delete(kept, at, at+1); len(kept) > 0 {
		i.to[c.http1Conn.to] = kept
		return
	}
	delete(i.to, c.http1Conn.to)
}

// lookAgain sees to it that somebody looks while there is something to look at. It needs the lock.
func (i *idleConns) lookAgain() {
	if !i.looking && i.order.Len() > 0 {
		i.looking = true
		time.AfterFunc(min(i.timeout, lookEvery), i.look)
	}
}

// look closes what was not used for the timeout, and what the other side has closed. It holds the lock for
// no system call, of which there may be thousands.
func (i *idleConns) look() {
	i.mu.Lock()
	kept := make([]*idleConn, 0, i.order.Len())
	for at := i.order.Front(); at != nil; at = at.Next() {
		kept = append(kept, at.Value.(*idleConn))
	}
	i.mu.Unlock()
	for _, c := range kept {
		if time.Since(c.since) >= i.timeout || !c.alive() {
			i.drop(c)
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.looking = false
	i.lookAgain()
}

// drop closes a connection, unless somebody took it in the meantime: then what was seen of it may be the response.
func (i *idleConns) drop(c *idleConn) {
	i.mu.Lock()
	kept := c.place != nil
	if kept {
		i.remove(c)
	}
	i.mu.Unlock()
	if kept {
		_ = c.Close()
	}
}

// closeAll closes all that are kept now, and those in use when they come back.
func (i *idleConns) closeAll() {
	i.mu.Lock()
	i.closing = true
	var kept []*idleConn
	for i.order.Len() > 0 {
		c := i.order.Front().Value.(*idleConn)
		i.remove(c)
		kept = append(kept, c)
	}
	i.mu.Unlock()
	for _, c := range kept {
		_ = c.Close()
	}
}
