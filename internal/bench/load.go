package bench

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fanfarehq/fanfare/internal/client"
)

const (
	benchPosters = 10
	benchArray   = 100 // events of one request
	// benchLead is how many deliveries the load may be ahead of the receiver. It keeps every stage busy
	// without building a backlog that would say nothing about a steady state.
	benchLead = 20_000
	// benchDrain bounds the wait for accepted events to arrive.
	benchDrain = 2 * time.Minute
)

// benchLoad publishes to the pipeline and watches the receiver.
type benchLoad struct {
	api      *client.Client
	receiver *client.Client
}

// benchWindow is what one window of load came to.
type benchWindow struct {
	Events     int64         `json:"events"`
	Deliveries int64         `json:"deliveries"`
	Duplicates int64         `json:"duplicates"`
	Elapsed    time.Duration `json:"elapsed_ns"` // from the first request to the last arrival
}

// rate is deliveries per second.
func (w benchWindow) rate() float64 { return float64(w.Deliveries) / w.Elapsed.Seconds() }

// benchType names the type of event n at a fan-out: each of its types has fanout subscriptions.
func benchType(fanout, n int) string {
	return fmt.Sprintf("bench.f%d.t%d", fanout, n%(benchEndpoints/fanout))
}

// full publishes as fast as events are accepted for so long, then waits until all have arrived.
func (l *benchLoad) full(ctx context.Context, fanout int, length time.Duration) (benchWindow, error) {
	if err := l.receiver.Do(ctx, "POST /begin", nil, nil); err != nil {
		return benchWindow{}, err
	}
	start := time.Now()
	var numbers, accepted atomic.Int64
	var arrived atomic.Int64
	loadCtx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return l.poll(loadCtx, &arrived) })
	for range benchPosters {
		group.Go(func() error {
			batch := newBenchBatch(fanout)
			for loadCtx.Err() == nil && groupCtx.Err() == nil {
				if numbers.Load()*int64(fanout)-arrived.Load() > benchLead {
					pause(loadCtx, time.Millisecond)
					continue
				}
				n, err := l.publish(groupCtx, batch.fill(int(numbers.Add(benchArray))-benchArray))
				accepted.Add(n)
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return benchWindow{}, err
	}
	want := accepted.Load() * int64(fanout)
	counts, err := l.drain(ctx, want)
	if err != nil {
		return benchWindow{}, err
	}
	return benchWindow{accepted.Load(), counts.Received, counts.Duplicates, counts.Last.Sub(start)}, nil
}

// publish sends one array and returns how many events were accepted.
func (l *benchLoad) publish(ctx context.Context, body []byte) (int64, error) {
	var answer struct {
		Accepted int64 `json:"accepted"`
	}
	if err := l.api.Do(ctx, "POST /v1/events?tenant="+benchTenant, body, &answer); err != nil {
		return 0, err
	}
	if answer.Accepted != benchArray {
		return answer.Accepted, fmt.Errorf("%d of %d events were accepted", answer.Accepted, benchArray)
	}
	return answer.Accepted, nil
}

// poll keeps arrived up to date.
func (l *benchLoad) poll(ctx context.Context, arrived *atomic.Int64) error {
	for pause(ctx, 50*time.Millisecond) {
		counts, err := l.counts(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		arrived.Store(counts.Received)
	}
	return nil
}

// drain waits for all deliveries and reports how many came.
func (l *benchLoad) drain(ctx context.Context, want int64) (receiverCounts, error) {
	for deadline := time.Now().Add(benchDrain); ; {
		counts, err := l.counts(ctx)
		switch {
		case err != nil:
			return counts, err
		case counts.Strange > 0:
			return counts, fmt.Errorf("%d requests at the receiver were not the bench's", counts.Strange)
		case counts.Received >= want:
			return counts, nil
		case time.Now().After(deadline):
			return counts, fmt.Errorf("%d of %d deliveries arrived within %v", counts.Received, want, benchDrain)
		}
		if !pause(ctx, 10*time.Millisecond) {
			return counts, context.Cause(ctx)
		}
	}
}

func (l *benchLoad) counts(ctx context.Context) (c receiverCounts, err error) {
	return c, l.receiver.Do(ctx, "GET /counts", nil, &c)
}

// steady publishes single events at a fixed rate, however long each takes, and returns how long each took
// from its publication to its arrival.
func (l *benchLoad) steady(ctx context.Context, perSecond int, length time.Duration) ([]time.Duration, error) {
	if err := l.receiver.Do(ctx, "POST /begin?timing", nil, nil); err != nil {
		return nil, err
	}
	total := int(length.Seconds() * float64(perSecond))
	group, groupCtx := errgroup.WithContext(ctx)
	data, start := newBenchData(), time.Now()
	for n := range total {
		if !pause(groupCtx, time.Until(start.Add(time.Duration(n)*time.Second/time.Duration(perSecond)))) {
			break
		}
		group.Go(func() error {
			event := fmt.Sprintf(`{"type":%q,"data":%s}`, benchType(1, n), data.event(n, time.Now()))
			return l.api.Do(groupCtx, "POST /v1/events?tenant="+benchTenant, []byte(event), nil)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if _, err := l.drain(ctx, int64(total)); err != nil {
		return nil, err
	}
	var latencies []time.Duration
	return latencies, l.receiver.Do(ctx, "GET /latencies", nil, &latencies)
}

// benchBatch is the body of a request, an array of events, made once; only the numbers and times change.
type benchBatch struct {
	body []byte
	data []int // where each event's data begins
}

func newBenchBatch(fanout int) *benchBatch {
	b, data := &benchBatch{body: []byte("[")}, newBenchData()
	for i := range benchArray {
		if i > 0 {
			b.body = append(b.body, ',')
		}
		b.body = fmt.Appendf(b.body, `{"type":%q,"data":`, benchType(fanout, i))
		b.data = append(b.data, len(b.body))
		b.body = append(append(b.body, data.event(i, time.Now())...), '}')
	}
	b.body = append(b.body, ']')
	return b
}

// fill numbers the events from first on, stamps them with the time and returns a copy of the body: a transport may still read the last one.
func (b *benchBatch) fill(first int) []byte {
	now := time.Now()
	for i, at := range b.data {
		number(b.body[at:], first+i)
		stamp(b.body[at:], now)
	}
	return bytes.Clone(b.body)
}

// pause waits and returns false if ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
