package egress

import (
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

	mu             sync.Mutex
	to             map[destination]*shelf
	oldest, newest *http1Conn // by when they were used
	count          int
	looking        bool // or about to
	closing        bool // returned connections are closed, until another is taken
}

// shelf holds the connections to one destination, the one that was used last at the end. It stays for a while when it is empty:
// mostly one comes back soon.
type shelf struct{ conns []*http1Conn }

// rest is what idleConns knows of a connection that it keeps; else it is zero.
type rest struct {
	since        time.Time
	older, newer *http1Conn
}

func newIdleConns(most, mostEach int, timeout time.Duration) *idleConns {
	return &idleConns{most: most, mostEach: mostEach, timeout: timeout, to: make(map[destination]*shelf)}
}

// take returns the connection to a destination that was used last, or nil.
func (i *idleConns) take(to destination) *http1Conn {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closing = false
	s := i.to[to]
	if s == nil || len(s.conns) == 0 {
		return nil
	}
	last := s.conns[len(s.conns)-1]
	s.conns[len(s.conns)-1] = nil
	s.conns = s.conns[:len(s.conns)-1]
	i.unlink(last)
	return last
}

// put keeps a connection, or closes it, or another one that was not used for longer.
func (i *idleConns) put(c *http1Conn) {
	i.mu.Lock()
	surplus := c
	if s := i.shelf(c.to); !i.closing && len(s.conns) < i.mostEach {
		surplus = nil
		if i.count == i.most {
			surplus = i.oldest
			i.remove(surplus)
		}
		s.conns = append(s.conns, c)
		i.link(c)
	}
	i.mu.Unlock()
	if surplus != nil {
		_ = surplus.Close()
	}
}

// shelf returns that of a destination. It needs the lock.
func (i *idleConns) shelf(to destination) *shelf {
	s := i.to[to]
	if s == nil {
		s = new(shelf)
		i.to[to] = s
		i.lookAgain()
	}
	return s
}

// link makes a connection the newest. It needs the lock.
func (i *idleConns) link(c *http1Conn) {
	c.rest = rest{since: time.Now(), older: i.newest}
	if i.newest == nil {
		i.oldest = c
	} else {
		i.newest.newer = c
	}
	i.newest = c
	i.count++
}

// unlink forgets when a connection was used. It needs the lock.
func (i *idleConns) unlink(c *http1Conn) {
	if c.older == nil {
		i.oldest = c.newer
	} else {
		c.older.newer = c.newer
	}
	if c.newer == nil {
		i.newest = c.older
	} else {
		c.newer.older = c.older
	}
	c.rest = rest{}
	i.count--
}

// remove forgets a connection. It needs the lock.
func (i *idleConns) remove(c *http1Conn) {
	s := i.to[c.to]
	at := slices.Index(s.conns, c)
	s.conns = slices.Delete(s.conns, at, at+1)
	i.unlink(c)
}

// lookAgain sees to it that somebody looks while there is something to look at. It needs the lock.
func (i *idleConns) lookAgain() {
	if !i.looking && len(i.to) > 0 {
		i.looking = true
		time.AfterFunc(min(i.timeout, lookEvery), i.look)
	}
}

// look closes connections unused for the timeout or closed by the other side. It holds the lock for
// no system call, of which there may be thousands.
func (i *idleConns) look() {
	type seen struct {
		*http1Conn
		since time.Time
	}
	i.mu.Lock()
	kept := make([]seen, 0, i.count)
	for c := i.oldest; c != nil; c = c.newer {
		kept = append(kept, seen{c, c.since})
	}
	i.mu.Unlock()
	for _, c := range kept {
		if time.Since(c.since) >= i.timeout || !c.alive() {
			i.drop(c.http1Conn, c.since)
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for to, s := range i.to {
		if len(s.conns) == 0 {
			delete(i.to, to)
		}
	}
	i.looking = false
	i.lookAgain()
}

// drop closes a connection, unless it was taken since it was seen: then the bytes seen may be the response.
func (i *idleConns) drop(c *http1Conn, since time.Time) {
	i.mu.Lock()
	kept := c.since.Equal(since)
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
	kept := make([]*http1Conn, 0, i.count)
	for i.oldest != nil {
		kept = append(kept, i.oldest)
		i.remove(i.oldest)
	}
	clear(i.to)
	i.mu.Unlock()
	for _, c := range kept {
		_ = c.Close()
	}
}
