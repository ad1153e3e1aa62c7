package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/terminal"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Bare is the bare loop of `fanfare bench`, a process of its own: the same signed POSTs that a worker makes,
// without a queue, a database or a subscription to look up. It makes them through the client of Go's net/http, as
// anybody would, or through the guarded client that workers have.
type Bare struct{}

// bareOrder is a line of standard input: what to do next.
type bareOrder struct {
	Endpoints []string      `json:"endpoints"`
	Guarded   bool          `json:"guarded"` // by the workers' client
	Posters   int           `json:"posters"`
	Length    time.Duration `json:"length_ns"`
}

// bareResult is the answer to it.
type bareResult struct {
	Window benchWindow   `json:"window"`
	CPU    time.Duration `json:"cpu_ns"`
}

// Run takes orders until standard input ends.
func (Bare) Run(ctx context.Context, c *terminal.Terminal) error {
	b := &bareLoop{data: newBenchData()}
	if err := b.open(); err != nil {
		return err
	}
	defer b.plain.Close()
	defer b.guarded.Close()
	orders := bufio.NewReader(os.Stdin)
	for ctx.Err() == nil {
		line, err := orders.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read an order: %w", err)
		}
		var order bareOrder
		if err := json.Unmarshal(line, &order); err != nil {
			return fmt.Errorf("read an order: %w", err)
		}
		result, err := b.run(ctx, order)
		if err != nil {
			return err
		}
		if err := json.NewEncoder(c.Out).Encode(result); err != nil {
			return err
		}
	}
	return nil
}

// bareLoop posts. Its subscriptions are made once, as a worker knows its own.
type bareLoop struct {
	plain, guarded *webhook.Poster
	data           benchData
	subs           []*subscriptions.Subscription
	number         atomic.Int64
}

// open makes the two clients, which keep as many connections.
func (b *bareLoop) open() error {
	policy, err := egress.ParsePolicy("127.0.0.0/8")
	if err != nil {
		return err
	}
	cfg := egress.DefaultConfig()
	if b.guarded, err = webhook.NewPoster(egress.NewClient(policy, cfg), webhook.DefaultPosterConfig(), time.Now); err != nil {
		return err
	}
	plain := &http.Client{Transport: &http.Transport{
		MaxIdleConns: cfg.MaxIdleConns, MaxIdleConnsPerHost: cfg.MaxIdleConnsPerHost, DisableCompression: true,
	}}
	b.plain, err = webhook.NewPoster(plain, webhook.DefaultPosterConfig(), time.Now)
	return err
}

// run posts for so long, from so many goroutines, to each endpoint in turn.
func (b *bareLoop) run(ctx context.Context, order bareOrder) (r bareResult, err error) {
	for _, url := range order.Endpoints[len(b.subs):] {
		secret := subscriptions.NewSecret(subscriptions.SignHMAC)
		b.subs = append(b.subs, &subscriptions.Subscription{
			ID: uuid.New(), Tenant: benchTenant, Dialect: subscriptions.Native, URL: url, PayloadFormat: "standard",
			Timeout: subscriptions.DefaultTimeout, Secrets: []subscriptions.Secret{secret}, Status: subscriptions.Active,
		})
	}
	poster := b.plain
	if order.Guarded {
		poster = b.guarded
	}
	var sent, failed atomic.Int64
	var failure atomic.Value
	before, start := ownCPU(), time.Now()
	ctx, cancel := context.WithTimeout(ctx, order.Length)
	defer cancel()
	var posters sync.WaitGroup
	for range order.Posters {
		posters.Go(func() {
			for ctx.Err() == nil {
				n := int(b.number.Add(1))
				result := poster.Send(context.WithoutCancel(ctx), b.attempt(n))
				if result.Reason != outcome.ReasonOK {
					failure.Store(fmt.Sprint(result.Reason, " ", result.Err))
					failed.Add(1)
					return
				}
				sent.Add(1)
			}
		})
	}
	posters.Wait()
	if failed.Load() > 0 {
		return r, fmt.Errorf("%d posters failed: %v", failed.Load(), failure.Load())
	}
	r.Window = benchWindow{Events: sent.Load(), Deliveries: sent.Load(), Elapsed: time.Since(start)}
	r.CPU = ownCPU() - before
	return r, nil
}

// attempt is POST number n.
func (b *bareLoop) attempt(n int) webhook.Attempt {
	now := time.Now()
	return webhook.Attempt{
		Event: &event.Event{
			ID: "bare-" + strconv.Itoa(n), Tenant: benchTenant, Type: benchType(1, n),
			Time: now, AcceptedAt: now, Data: b.data.event(n, now),
		},
		Subscription: b.subs[n%len(b.subs)],
		Number:       1,
	}
}

// bareWindow has the bare loop post for so long.
func (b *bench) bareWindow(guarded bool, length time.Duration) (r bareResult, err error) {
	order, err := json.Marshal(bareOrder{Endpoints: b.endpoints, Guarded: guarded, Posters: b.cmd.Posters, Length: length})
	if err != nil {
		return r, err
	}
	if _, err := b.bare.stdin.Write(append(order, '\n')); err != nil {
		return r, fmt.Errorf("order the bare loop: %w", err)
	}
	err = b.bare.readLine(&r)
	return r, err
}
