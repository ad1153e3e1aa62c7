package webhook

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// issuer gives tokens t1, t2, ... of a life, or fails.
type issuer struct {
	mu    sync.Mutex
	count int
	life  time.Duration
	takes time.Duration
	err   error
}

func (i *issuer) fetch(ctx context.Context) (string, time.Duration, error) {
	i.mu.Lock()
	i.count++
	n, life, takes, err := i.count, i.life, i.takes, i.err
	i.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return "", 0, ctx.Err()
	}
	return fmt.Sprintf("t%d", n), life, err
}

func (i *issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

func (i *issuer) asked() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.count
}

func (i *issuer) tokens() *tokens { return &tokens{fetch: i.fetch, now: time.Now} }

// A token serves until shortly before it expires, whatever life it is given.
func TestTokenLife(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ life, keeps, renewed time.Duration }{
		{time.Hour, 58 * time.Minute, 59*time.Minute + time.Second},
		{10 * time.Second, 7 * time.Second, 9 * time.Second},
		{0, 58 * time.Minute, 59*time.Minute + time.Second},
		{time.Millisecond, 700 * time.Millisecond, 900 * time.Millisecond},
		{1 << 62, 23 * time.Hour, 24 * time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			from := &issuer{life: tc.life}
			tokens := from.tokens()
			want := func(value string) {
				t.Helper()
				if got, err := tokens.get(t.Context()); got != value || err != nil {
					t.Errorf("life %s: got %q, %v, want %q", tc.life, got, err, value)
				}
			}
			want("t1")
			time.Sleep(tc.keeps)
			want("t1")
			time.Sleep(tc.renewed - tc.keeps)
			want("t2")
		})
	}
}

// However many want a token, it is asked for once; whoever gives up waiting takes it from nobody.
func TestTokenIsAskedForOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := &issuer{life: time.Hour, takes: time.Second}
		tokens := from.tokens()
		var wg sync.WaitGroup
		var served, late atomic.Int32
		for n := range 100 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+n%2*4000)*time.Millisecond/2)
				defer cancel()
				switch value, err := tokens.get(ctx); {
				case value == "t1" && err == nil:
					served.Add(1)
				case errors.Is(err, context.DeadlineExceeded):
					late.Add(1)
				}
			})
		}
		wg.Wait()
		if served.Load() != 50 || late.Load() != 50 || from.asked() != 1 {
			t.Errorf("%d served, %d late, %d requests", served.Load(), late.Load(), from.asked())
		}
	})
}

// A request for which nobody waits any more ends, and its end is nobody else's error.
func TestTokenForNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := &issuer{life: time.Hour, takes: time.Hour}
		tokens := from.tokens()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := tokens.get(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		from.set(func() { from.takes = time.Second })
		if value, err := tokens.get(t.Context()); value != "t2" || err != nil {
			t.Errorf("got %q, %v", value, err)
		}
		synctest.Wait() // Should the first request still run, its timer would keep this bubble from ending.
	})
}

func TestTokenEndpointThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := &issuer{takes: time.Hour}
		start := time.Now()
		if _, err := from.tokens().get(t.Context()); err == nil || time.Since(start) != tokenTime {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
	})
}

// While a token is being renewed the old one serves the others, and everybody if there is no other to be had.
func TestTokenIsRenewedInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := &issuer{life: 10 * time.Minute}
		tokens := from.tokens()
		get := func() string {
			value, err := tokens.get(t.Context())
			if err != nil {
				t.Error(err)
			}
			return value
		}
		get()
		time.Sleep(9*time.Minute + time.Second)
		from.set(func() { from.takes, from.err = time.Second, errors.New("away") })
		first := make(chan string)
		go func() { first <- get() }()
		synctest.Wait()
		start := time.Now()
		if value := get(); value != "t1" || time.Since(start) != 0 {
			t.Errorf("meanwhile: %s after %s", value, time.Since(start))
		}
		if value := <-first; value != "t1" {
			t.Errorf("without another: %s", value)
		}
		if get(); from.asked() != 2 {
			t.Errorf("asked %d times", from.asked())
		}
		time.Sleep(renewPause)
		if get(); from.asked() != 3 {
			t.Errorf("asked %d times", from.asked())
		}
		time.Sleep(time.Minute)
		if value, err := tokens.get(t.Context()); err == nil {
			t.Errorf("an expired token is given out: %s", value)
		}
		from.set(func() { from.err = nil })
		if value := get(); value != "t5" {
			t.Errorf("got %s", value)
		}
	})
}

// One 401 makes a new token for all who had the old one. Where that is refused, too, it is the receiver's word for a while.
func TestTokenIsReplacedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := &issuer{life: time.Hour, takes: time.Second}
		tokens := from.tokens()
		old, err := tokens.get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if fresh, err := tokens.replace(t.Context(), old); fresh != "t2" || err != nil {
					t.Errorf("got %s, %v", fresh, err)
				}
			})
		}
		wg.Wait()
		tokens.refuse()
		if same, err := tokens.replace(t.Context(), "t2"); same != "t2" || err != nil || from.asked() != 2 {
			t.Errorf("got %s, %v after %d requests", same, err, from.asked())
		}
		time.Sleep(refusedPause)
		if fresh, err := tokens.replace(t.Context(), "t2"); fresh != "t3" || err != nil {
			t.Errorf("got %s, %v", fresh, err)
		}
	})
}
