package access

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// A guess is logged once an address or a key has had guessBurst of them and more than guessRate a second.
const (
	guessRate  = 100
	guessBurst = 1000
)

// guesses notices who tries many wrong credentials, for the log. It refuses nobody: behind a proxy all callers may
// share one address, and 256 random bits are not found by trying. Lookups of unknown keys are bounded by keyCache.
type guesses struct {
	now     func() time.Time
	buckets *lru.Cache[string, *rate.Limiter]
}

func newGuesses(now func() time.Time) *guesses {
	buckets, err := lru.New[string, *rate.Limiter](8192)
	if err != nil {
		panic(err) // the size is right
	}
	return &guesses{now: now, buckets: buckets}
}

// count takes one from the bucket of an address or a key, and reports whether this emptied it.
func (g *guesses) count(of string) bool {
	if of == "" {
		return false
	}
	bucket, found := g.buckets.Get(of)
	if !found {
		bucket = rate.NewLimiter(guessRate, guessBurst)
		g.buckets.Add(of, bucket)
	}
	now := g.now()
	before := bucket.TokensAt(now)
	bucket.AllowN(now, 1)
	return before >= 1 && bucket.TokensAt(now) < 1
}
