package deliver

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// surveyAge is how old the knowledge of the backlog may be by which room in it is given.
const surveyAge = 250 * time.Millisecond

// backlogRoom shares the bytes of BACKLOG between tenants: a tenant may have no more there than is free. So one
// tenant takes half at most, a second one half of the rest, and there is always room for a tenant that has none.
type backlogRoom struct {
	js natsjs.JetStream

	mu     sync.Mutex
	stream natsjs.Stream
	at     time.Time
	free   float64            // bytes
	of     map[string]float64 // bytes that wait for a tenant, about
	each   map[string]float64 // the size of a tenant's messages, about
}

// put notes bytes put into the backlog for a tenant.
func (r *backlogRoom) put(tenant string, messages, bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.each == nil {
		r.each = make(map[string]float64)
	}
	r.each[tenant] = float64(bytes) / float64(messages)
}

// has fails with jetstream.ErrFull if a tenant has its share already.
func (r *backlogRoom) has(ctx context.Context, tenant string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.at) > surveyAge {
		if err := r.survey(ctx); err != nil {
			return err
		}
	}
	if have := r.of[tenant]; have > r.free {
		return fmt.Errorf("%w: %.0f MiB of %s wait for tenant %s, and %.0f MiB are free",
			jetstream.ErrFull, have/(1<<20), BacklogStream, tenant, r.free/(1<<20))
	}
	return nil
}

// survey looks how much each tenant has in the backlog. The broker counts messages by subject, but bytes only in all.
func (r *backlogRoom) survey(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, handOffTimeout)
	defer cancel()
	info, err := r.look(ctx)
	if err != nil {
		return fmt.Errorf("look at stream %s: %w", BacklogStream, jetstream.Classify(err))
	}
	r.at, r.free = time.Now(), float64(info.Config.MaxBytes)-float64(info.State.Bytes)
	average := float64(info.State.Bytes) / float64(max(1, info.State.Msgs))
	each := make(map[string]float64, len(info.State.Subjects))
	r.of = make(map[string]float64, len(info.State.Subjects))
	for subject, n := range info.State.Subjects {
		tenant := subject[strings.LastIndexByte(subject, '.')+1:]
		size, known := r.each[tenant]
		if known {
			each[tenant] = size
		} else {
			size = average
		}
		r.of[tenant] = float64(n) * size
	}
	r.each = each
	return nil
}

func (r *backlogRoom) look(ctx context.Context) (*natsjs.StreamInfo, error) {
	if r.stream == nil {
		stream, err := r.js.Stream(ctx, BacklogStream)
		if err != nil {
			return nil, err
		}
		r.stream = stream
	}
	return r.stream.Info(ctx, natsjs.WithSubjectFilter("backlog.>"))
}
