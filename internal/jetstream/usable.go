package jetstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// MinVersion is the oldest NATS server that has what Fanfare uses: atomic batches came with 2.12.
const MinVersion = "2.12.0"

// ErrUnusable says that a server answers and lacks what Fanfare needs, so that waiting is of no use.
var ErrUnusable = errors.New("the NATS server is not usable")

// AwaitUsable returns once JetStream answers. It refuses a server older than MinVersion and one without JetStream with
// ErrUnusable; report is called with the reason of each other failed try, until ctx ends.
func AwaitUsable(ctx context.Context, nc *nats.Conn, js natsjs.JetStream, report func(error)) error {
	if have := nc.ConnectedServerVersion(); olderThan(have, MinVersion) {
		return fmt.Errorf("%w: server %s has version %s; Fanfare needs %s or later", ErrUnusable, nc.ConnectedServerName(), have, MinVersion)
	}
	for pause := (backOff{}); ; {
		ask, cancel := context.WithTimeout(ctx, js.Options().DefaultTimeout)
		_, err := js.Stream(ask, "EVENTS")
		cancel()
		switch {
		case err == nil, errors.Is(err, natsjs.ErrStreamNotFound):
			return nil
		case errors.Is(err, nats.ErrNoResponders), errors.Is(err, natsjs.ErrJetStreamNotEnabled), errors.Is(err, natsjs.ErrJetStreamNotEnabledForAccount):
			return fmt.Errorf("%w: server %s has no JetStream for this account (%w): enable it in the server's configuration",
				ErrUnusable, nc.ConnectedServerName(), err)
		}
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) {
			err = fmt.Errorf("JetStream does not answer; may this account publish to $JS.API.STREAM.INFO.> and subscribe to _INBOX.>? %w", err)
		}
		report(err)
		if !pause.wait(ctx) {
			return fmt.Errorf("use JetStream: %w (%w)", err, context.Cause(ctx))
		}
	}
}

// olderThan compares versions such as 2.12.0 and 2.12.0-RC.1. A version that cannot be read is not older.
func olderThan(have, than string) bool {
	var h, t [3]int
	if n, _ := fmt.Sscanf(have, "%d.%d.%d", &h[0], &h[1], &h[2]); n < len(h) {
		return false
	}
	if n, _ := fmt.Sscanf(than, "%d.%d.%d", &t[0], &t[1], &t[2]); n < len(t) {
		return false
	}
	for i := range h {
		if h[i] != t[i] {
			return h[i] < t[i]
		}
	}
	return false
}
