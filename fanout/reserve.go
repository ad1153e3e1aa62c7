package fanout

import (
	"context"
	"errors"
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

const (
	// reserveLook is how old the knowledge of the stream's size may be, and reserveTimeout bounds a look.
	reserveLook, reserveTimeout = time.Second, 2 * time.Second
)

// errReserved says that the rest of the stream is reserved for others.
var errReserved = errors.New("three quarters of the storage for events are used, the rest is for publishers with credentials")

// Reserve returns a function that fails once three quarters of the stream are used: for publishers that must not fill all of it. Settled events
// are purged long before. While
// the size is not known, the last known size counts.
func Reserve(js natsjs.JetStream) func() error {
	var mu sync.Mutex
	var looked time.Time
	var last error
	return func() error {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(looked) < reserveLook {
			return last
		}
		looked = time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), reserveTimeout)
		defer cancel()
		if stream, err := js.Stream(ctx, Stream); err == nil {
			last = nil
			if at := stream.CachedInfo(); at.Config.MaxBytes > 0 && at.State.Bytes > uint64(at.Config.MaxBytes)/4*3 {
				last = errReserved
			}
		}
		return last
	}
}
