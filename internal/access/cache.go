package access

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/fanfarehq/fanfare/internal/group"
)

const (
	// believeFor is how long a cached key is valid. A key that is revoked elsewhere ends that much later.
	believeFor = 3 * time.Second
	// unknownFor is how long an id is believed not to exist.
	unknownFor = 2 * time.Second
	// refreshFor is how long after its last use a key is kept fresh in the background.
	refreshFor = 10 * time.Second
	// usedEvery is how often the last use of a key is written at most.
	usedEvery = time.Minute

	maxKeys    = 1 << 16
	maxUnknown = 1 << 13
	// lookupTimeout bounds the query that callers wait for.
	lookupTimeout = 3 * time.Second
	// lookupsAtOnce is how many keys one query reads. There is one such query at a time: a flood of
	// made-up keys costs one connection, and a valid key that this process has not seen waits for two queries.
	lookupsAtOnce = 1000
)

// keyCache holds keys as Postgres last had them. Ids that do not exist have a place of their own, so that spraying
// them pushes out no key.
type keyCache struct {
	store   store
	now     func() time.Time
	entries *lru.Cache[string, *entry]
	unknown *lru.Cache[string, time.Time]
	lookups *group.Committer[*lookup]

	mu       sync.Mutex
	lastUses map[string]time.Time // to be written
	rehashes map[string]rehash    // to be written
}

// entry is a key as it was at readAt. What was read is never changed, it is replaced.
type entry struct {
	key    *Key
	readAt time.Time
	// uses outlives the replacement of the entry.
	uses *uses
}

type uses struct {
	last, written atomic.Int64 // Unix time in ns
}

type lookup struct {
	id  string
	key *Key
}

type rehash struct{ from, to []byte }

func newKeyCache(s store, now func() time.Time) *keyCache {
	c := &keyCache{store: s, now: now, lastUses: map[string]time.Time{}, rehashes: map[string]rehash{}}
	var err error
	if c.entries, err = lru.New[string, *entry](maxKeys); err != nil {
		panic(err) // the size is right
	}
	if c.unknown, err = lru.New[string, time.Time](maxUnknown); err != nil {
		panic(err)
	}
	c.lookups = group.New(group.Limits{Count: lookupsAtOnce, Timeout: lookupTimeout}, nil, c.read)
	return c
}

// cached is the key if it is known now; nil and true if it is known not to exist.
func (c *keyCache) cached(id string) (*Key, bool) {
	now := c.now()
	if e, ok := c.entries.Get(id); ok && now.Sub(e.readAt) < believeFor {
		return e.key, true
	}
	if at, ok := c.unknown.Get(id); ok && now.Sub(at) < unknownFor {
		return nil, true
	}
	return nil, false
}

// load reads a key, together with what others ask for; nil if there is none.
func (c *keyCache) load(ctx context.Context, id string) (*Key, error) {
	l := &lookup{id: id}
	if err := c.lookups.Do(ctx, l); err != nil {
		return nil, err
	}
	return l.key, nil
}

// read is the commit of lookups.
func (c *keyCache) read(ctx context.Context, lookups []*lookup) error {
	ids := make([]string, len(lookups))
	for i, l := range lookups {
		ids[i] = l.id
	}
	found, err := c.renew(ctx, ids)
	if err != nil {
		return err
	}
	for _, l := range lookups {
		l.key = found[l.id]
	}
	return nil
}

// renew reads keys and remembers what it found.
func (c *keyCache) renew(ctx context.Context, ids []string) (map[string]*Key, error) {
	readAt := c.now() // before the query: what happens after it must not be believed to be known
	found, err := c.store.keys(ctx, ids)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		key, ok := found[id]
		if !ok {
			c.entries.Remove(id)
			c.unknown.Add(id, readAt)
			continue
		}
		next := &entry{key: key, readAt: readAt, uses: &uses{}}
		if before, ok := c.entries.Peek(id); ok {
			next.uses = before.uses
		}
		c.unknown.Remove(id)
		c.entries.Add(id, next)
	}
	return found, nil
}

// refresh renews the keys that are in use, so that their callers do not wait.
func (c *keyCache) refresh(ctx context.Context) error {
	now := c.now()
	var ids []string
	for _, id := range c.entries.Keys() {
		e, ok := c.entries.Peek(id)
		if ok && now.UnixNano()-e.uses.last.Load() < int64(refreshFor) {
			ids = append(ids, id)
		}
	}
	for len(ids) > 0 {
		n := min(len(ids), 5000)
		if _, err := c.renew(ctx, ids[:n]); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// forget makes the next use of these keys read them anew.
func (c *keyCache) forget(ids ...string) {
	for _, id := range ids {
		c.entries.Remove(id)
	}
}

// used notes that a key was used; flush writes it.
func (c *keyCache) used(k *Key, now time.Time) {
	e, ok := c.entries.Peek(k.ID)
	if !ok {
		return
	}
	e.uses.last.Store(now.UnixNano())
	written := e.uses.written.Load()
	if now.UnixNano()-written < int64(usedEvery) || !e.uses.written.CompareAndSwap(written, now.UnixNano()) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastUses[k.ID] = now
}

// rehash notes that a key's hash is to be replaced by one with the first pepper.
func (c *keyCache) rehash(k *Key, hash []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rehashes[k.ID] = rehash{from: k.hash, to: hash}
}

// flush writes what used and rehash noted. What cannot be written is noted again.
func (c *keyCache) flush(ctx context.Context) error {
	c.mu.Lock()
	lastUses, rehashes := c.lastUses, c.rehashes
	c.lastUses, c.rehashes = map[string]time.Time{}, map[string]rehash{}
	c.mu.Unlock()
	err := c.store.writeUses(ctx, lastUses, rehashes)
	if err == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, at := range lastUses {
		if c.lastUses[id].Before(at) {
			c.lastUses[id] = at
		}
	}
	for id, r := range rehashes {
		c.rehashes[id] = r
	}
	return err
}
