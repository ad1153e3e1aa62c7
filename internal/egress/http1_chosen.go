package egress

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	chosenHosts = 8192
	chosenFor   = time.Hour // then a receiver may choose again
)

// chosen remembers which receivers chose HTTP/1.1 over TLS when they were offered HTTP/2 too.
type chosen struct {
	mu    sync.Mutex
	hosts *simplelru.LRU[string, time.Time] // as in the URL; until when
}

func newChosen() *chosen {
	hosts, err := simplelru.NewLRU[string, time.Time](chosenHosts, nil)
	if err != nil {
		panic(err) // it dislikes sizes of 0
	}
	return &chosen{hosts: hosts}
}

func (c *chosen) has(host string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, ok := c.hosts.Get(host)
	return ok && time.Now().Before(until)
}

func (c *chosen) remember(host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hosts.Add(host, time.Now().Add(chosenFor))
}

func (c *chosen) forget(host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hosts.Remove(host)
}
