package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/throttle"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// checks are what /readyz asks of a process of the role: what the role needs of NATS and of Postgres, by using it.
func (b *backing) checks(s *settings, r role) []check {
	all := []check{
		{"nats", func(context.Context) error {
			if status := b.nc.Status(); status != nats.CONNECTED {
				return fmt.Errorf("connection %s", status)
			}
			return nil
		}},
		{"postgres", b.heartbeat.Check},
		{"streams", func(ctx context.Context) error { return jetstream.Present(ctx, b.js, needed(s, r)...) }},
	}
	for _, to := range publishes(r) {
		all = append(all, check{"publishing to " + to.stream, func(ctx context.Context) error {
			return jetstream.CanPublish(ctx, b.js, to.stream, to.subject)
		}})
	}
	if b.workers != nil && r != roleAll { // One that has the data directory to itself waits for no other.
		all = append(all, check{"workers", func(context.Context) error { return joined(b.workers) }})
	}
	if b.disk != nil {
		all = append(all, check{"disk", func(context.Context) error { return b.disk.Room() }})
	}
	return all
}

// joined says why a worker delivers nothing yet. A rolling update that waits for it stops no worker before its successor works.
func joined(workers *throttle.Workers) error {
	select {
	case <-workers.Counted():
		return nil
	default:
		return errors.New("waiting to be counted by the other workers: deliveries begin 10 s after the start")
	}
}

// needed are the streams that a role uses, with the consumers that it reads.
func needed(s *settings, r role) []jetstream.Inbox {
	var all []jetstream.Inbox
	for _, in := range inboxes(s) {
		reads := map[string]bool{
			fanout.Stream: r.is(roleFanout), deliver.Stream: r.is(roleDeliver), deliver.BacklogStream: r.is(roleDeliver),
			ledger.Stream: r.is(roleDeliver),
		}
		uses := map[string]bool{
			fanout.Stream: true, deliver.Stream: r.is(roleFanout, roleDeliver),
			deliver.BacklogStream: r.is(roleFanout, roleDeliver), ledger.Stream: r.is(roleAPI, roleDeliver),
		}
		if !reads[in.Stream.Name] {
			in.Consumers = nil
		}
		if uses[in.Stream.Name] {
			all = append(all, in)
		}
	}
	return all
}

// outlet is a stream that a role publishes to, with a subject to ask about.
type outlet struct{ stream, subject string }

func publishes(r role) (all []outlet) {
	if r.is(roleAPI, roleIngest) {
		all = append(all, outlet{fanout.Stream, event.SubjectPrefix + "fanfare.ready"})
	}
	if r.is(roleFanout) {
		all = append(all, outlet{deliver.Stream, "tasks.ready"})
	}
	if r.is(roleDeliver) {
		all = append(all, outlet{ledger.Stream, "attempts.ready"})
	}
	return all
}
