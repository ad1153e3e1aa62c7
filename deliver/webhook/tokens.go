package webhook

import (
	"context"
	"sync"
	"time"

	"github.com/fanfarehq/fanfare/internal/survive"
)

// By what tokens are kept.
const (
	// tokenTime is how long a token endpoint may take, within the attempt's own time.
	tokenTime = 10 * time.Second
	// A token is asked for anew a fifth of its life before it ends, but not more than tokenMargin before.
	tokenMargin = time.Minute
	// A token's life is taken to be within these bounds, and tokenLife if the endpoint does not say.
	shortestToken = time.Second
	longestToken  = 24 * time.Hour
	tokenLife     = time.Hour
	// refusedPause is how long a receiver that refused a new token, too, is believed to mean something else.
	refusedPause = 30 * time.Second
	// renewPause is how long nobody asks again after a token could not be renewed while it is still good.
	renewPause = 5 * time.Second
)

// tokens keeps the access token of one subscription as it stands. However many attempts want one at once, one request is
// made for all of them, and it ends when none of them waits any more.
type tokens struct {
	host  string // of the token endpoint
	fetch func(context.Context) (value string, life time.Duration, err error)
	now   func() time.Time

	mu      sync.Mutex
	value   string
	renew   time.Time // from then on another one is asked for
	expires time.Time
	// believed is until when a 401 is the receiver's answer and nothing that a token could mend.
	believed time.Time
	asking   *tokenFlight
}

// tokenFlight is a request for a token that is under way.
type tokenFlight struct {
	done    chan struct{} // closed when value and err are there
	stop    context.CancelFunc
	waiting int
	value   string
	err     error
}

// get returns a token that is good now. Its error is that of fetch, or of ctx.
func (t *tokens) get(ctx context.Context) (string, error) {
	t.mu.Lock()
	now := t.now()
	good := t.value != "" && now.Before(t.expires)
	if good && (now.Before(t.renew) || t.asking != nil) {
		defer t.mu.Unlock()
		return t.value, nil
	}
	value, err := t.wait(ctx)
	if err == nil || !good || ctx.Err() != nil {
		return value, err
	}
	// It could not be renewed, but is good for some time yet.
	t.mu.Lock()
	defer t.mu.Unlock()
	t.renew = t.now().Add(renewPause)
	if t.value == "" {
		return "", err
	}
	return t.value, nil
}

// replace returns another token than one that a receiver refused, or the same if there is none to be had.
func (t *tokens) replace(ctx context.Context, refused string) (string, error) {
	t.mu.Lock()
	switch {
	case t.value != "" && t.value != refused:
		defer t.mu.Unlock()
		return t.value, nil // Somebody was faster.
	case t.now().Before(t.believed):
		defer t.mu.Unlock()
		return refused, nil
	}
	t.value = ""
	return t.wait(ctx)
}

// refuse notes that a receiver refused a token that it had not seen before.
func (t *tokens) refuse() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.believed = t.now().Add(refusedPause)
}

// wait waits for the request that is under way, or begins one. It is called with the lock, and gives it back.
func (t *tokens) wait(ctx context.Context) (string, error) {
	f := t.asking
	if f == nil {
		f = t.begin(ctx)
	}
	f.waiting++
	t.mu.Unlock()
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.waiting--; f.waiting == 0 {
		f.stop()
		if t.asking == f {
			t.asking = nil // Later callers must not get the error of a cancelled request.
		}
	}
	return "", context.Cause(ctx)
}

// begin asks for a token, on behalf of all who wait: the deadline of the first of them is not the others'.
func (t *tokens) begin(ctx context.Context) *tokenFlight {
	f := &tokenFlight{done: make(chan struct{})}
	ctx, f.stop = context.WithTimeoutCause(context.WithoutCancel(ctx), tokenTime, errTimeout)
	t.asking = f
	go func() {
		defer f.stop()
		var value string
		var life time.Duration
		err := survive.Do(func() (err error) {
			value, life, err = t.fetch(ctx)
			return err
		})
		t.land(f, value, life, err)
	}()
	return f
}

// land keeps what a request brought.
func (t *tokens) land(f *tokenFlight, value string, life time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.value, f.err = value, err
	close(f.done)
	if t.asking != f {
		return
	}
	t.asking = nil
	if err != nil {
		return
	}
	if life == 0 {
		life = tokenLife
	}
	life = min(max(life, shortestToken), longestToken)
	t.value = value
	t.expires = t.now().Add(life)
	t.renew = t.expires.Add(-min(life/5, tokenMargin))
}
