package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/group"
)

// routes knows which stream takes which subjects, and the lane of each. The broker is asked once for each stream: no two of
// an account take the same subject, so what matches the filter of a known one is its.
type routes struct {
	js  natsjs.JetStream
	cfg PublisherConfig

	searches *group.Committer[*search]
	changing sync.Mutex
	known    atomic.Pointer[[]route]
}

// route says which lane takes the subjects of a filter.
type route struct {
	filter string
	lane   *lane
}

// search is the question for a subject's lane.
type search struct {
	subject string
	lane    *lane
	err     error
}

func newRoutes(js natsjs.JetStream, cfg PublisherConfig) *routes {
	r := &routes{js: js, cfg: cfg}
	r.known.Store(new([]route))
	r.searches = group.New(group.Limits{Timeout: cfg.Timeout}, nil, r.search)
	return r
}

// of returns the lane of a subject's stream.
func (r *routes) of(ctx context.Context, subject string) (*lane, error) {
	if l := r.look(subject); l != nil {
		return l, nil
	}
	s := &search{subject: subject}
	if err := r.searches.Do(ctx, s); err != nil {
		return nil, unanswered(err)
	}
	return s.lane, s.err
}

func (r *routes) look(subject string) *lane {
	for _, route := range *r.known.Load() {
		if matches(route.filter, subject) {
			return route.lane
		}
	}
	return nil
}

// search answers a group of questions. If the broker does not answer the first, nobody waits for the others.
func (r *routes) search(ctx context.Context, group []*search) error {
	var away error
	for _, s := range group {
		if s.lane = r.look(s.subject); s.lane != nil {
			continue
		}
		if s.err = away; away != nil {
			continue
		}
		if s.lane, s.err = r.find(ctx, s.subject); errors.Is(s.err, ErrUnavailable) {
			away = s.err
		}
	}
	return nil
}

// find asks the broker for the stream of a subject and makes its lane.
func (r *routes) find(ctx context.Context, subject string) (*lane, error) {
	name, err := r.js.StreamNameBySubject(ctx, subject)
	if errors.Is(err, natsjs.ErrStreamNotFound) {
		return nil, fmt.Errorf("no stream takes this subject; %s: %w", remedy, err)
	}
	if err != nil {
		return nil, Classify(err)
	}
	stream, err := r.js.Stream(ctx, name)
	if err != nil {
		return nil, Classify(err)
	}
	cfg := stream.CachedInfo().Config
	found := newLane(r.js, cfg, r.cfg)
	r.change(func(l *lane) bool { return l.stream == name }, found, cfg.Subjects)
	return found, nil
}

// forget lets go of a lane, so that its subjects are looked up again.
func (r *routes) forget(gone *lane) {
	r.change(func(l *lane) bool { return l == gone }, nil, nil)
}

// change takes lanes out and puts one in.
func (r *routes) change(out func(*lane) bool, in *lane, filters []string) {
	r.changing.Lock()
	defer r.changing.Unlock()
	next := slices.DeleteFunc(slices.Clone(*r.known.Load()), func(route route) bool { return out(route.lane) })
	for _, filter := range filters {
		next = append(next, route{filter, in})
	}
	r.known.Store(&next)
}
