package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// benchBareCmd is the bare loop of `fanfare bench`, a process of its own: the same signed POSTs that a worker makes,
// by the same code, without a queue, a database or a subscription to look up.
type benchBareCmd struct{}

// bareOrder is a line of standard input: what to do next.
type bareOrder struct {
	Endpoints []string      `json:"endpoints"`
	Posters   int           `json:"posters"`
	Length    time.Duration `json:"length_ns"`
}

// bareResult is the answer to it.
type bareResult struct {
	Window benchWindow   `json:"window"`
	CPU    time.Duration `json:"cpu_ns"`
}

// Run takes orders until standard input ends.
func (benchBareCmd) Run(ctx context.Context, c *console) error {
	policy, err := egress.ParsePolicy("127.0.0.0/8")
	if err != nil {
		return err
	}
	poster, err := deliver.NewPoster(egress.NewClient(policy, egress.DefaultConfig()), deliver.DefaultPosterConfig(), time.Now)
	if err != nil {
		return err
	}
	b := &bareLoop{poster: poster, data: newBenchData()}
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
		if err := json.NewEncoder(c.out).Encode(result); err != nil {
			return err
		}
	}
	return nil
}

// bareLoop posts. Its subscriptions are made once, as a worker knows its own.
type bareLoop struct {
	poster *deliver.Poster
	data   benchData
	subs   []*subscriptions.Subscription
	number atomic.Int64
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
				result := b.poster.Send(context.WithoutCancel(ctx), b.attempt(n))
				if result.Reason != deliver.ReasonOK {
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
func (b *bareLoop) attempt(n int) deliver.Attempt {
	now := time.Now()
	return deliver.Attempt{
		Event: &deliver.Event{
			ID: "bare-" + strconv.Itoa(n), Tenant: benchTenant, Type: benchType(1, n),
			Time: now, AcceptedAt: now, Data: b.data.event(n, now),
		},
		Subscription: b.subs[n%len(b.subs)],
		Number:       1,
	}
}

// ownCPU is what this process has used.
func ownCPU() time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		return 0
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// bareWindow has the bare loop post for so long.
func (b *bench) bareWindow(length time.Duration) (benchWindow, time.Duration, error) {
	order, err := json.Marshal(bareOrder{Endpoints: b.endpoints, Posters: b.cmd.Posters, Length: length})
	if err != nil {
		return benchWindow{}, 0, err
	}
	if _, err := b.bare.stdin.Write(append(order, '\n')); err != nil {
		return benchWindow{}, 0, fmt.Errorf("order the bare loop: %w", err)
	}
	var r bareResult
	err = b.bare.readLine(&r)
	return r.Window, r.CPU, err
}
