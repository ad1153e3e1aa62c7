package access

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/fanfarehq/fanfare/internal/api"
)

// wrongKeys bounds how many wrong credentials one address may try. What it protects is Postgres: 256 random bits are
// not found by trying. It forgets the addresses that it has not seen for longest.
type wrongKeys struct {
	perSecond int
	now       func() time.Time
	buckets   *lru.Cache[string, *rate.Limiter]
}

func newWrongKeys(perSecond int, now func() time.Time) *wrongKeys {
	buckets, err := lru.New[string, *rate.Limiter](8192)
	if err != nil {
		panic(err) // the size is right
	}
	return &wrongKeys{perSecond: perSecond, now: now, buckets: buckets}
}

// count takes one from the bucket of an address or a key, and says whether this emptied it.
func (w *wrongKeys) count(of string) bool {
	if w.perSecond == 0 || of == "" {
		return false
	}
	fresh := rate.NewLimiter(rate.Limit(w.perSecond), 10*w.perSecond)
	bucket, found, _ := w.buckets.PeekOrAdd(of, fresh)
	if !found {
		bucket = fresh
	}
	now := w.now()
	before := bucket.TokensAt(now)
	bucket.AllowN(now, 1)
	return before >= 1 && bucket.TokensAt(now) < 1
}

// exhausted says whether the address has tried too often.
func (w *wrongKeys) exhausted(remote string) bool {
	bucket, found := w.buckets.Get(remote)
	return found && bucket.TokensAt(w.now()) < 1
}

func (w *wrongKeys) tooMany() error {
	return api.TooManyRequests("too many wrong keys from this address", 1)
}
