package fanout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/internal/crashpoint"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// job is one event on its way through fan-out.
type job struct {
	*Stage
	event *event.Event
	// suspect says that the event may have been fanned out before.
	suspect bool
	counted bool // its message is counted by internal/suspect
	matched int  // deliveries that the event came to
	// since is when it came. The broker gives a message to another once it has heard nothing for AckWait: a
	// process that was stopped for so long must not go on as if it were alone.
	since time.Time
}

// stale is how old a job may be before it asks the ledger once more.
const stale = jetstream.AckWait / 2

// inTurn is run, once no other event of its id is under way.
func (j *job) inTurn(ctx context.Context) (*event.Refusal, error) {
	if err := j.turns.enter(ctx, j.event.Key()); err != nil {
		return nil, fmt.Errorf("wait for event %s: %w", j.event.ID, err)
	}
	defer j.turns.leave(j.event.Key())
	return j.run(ctx)
}

// run matches the event, hands its tasks over and records it, in this order: an event that the ledger has was
// handed over. A refusal says that it may not be published.
func (j *job) run(ctx context.Context) (*event.Refusal, error) {
	if err := j.fresh(ctx); err != nil {
		return nil, err
	}
	if !j.event.Checked {
		if refusal, err := j.rules.Check(ctx, j.event); refusal != nil || err != nil {
			return refusal, err
		}
	}
	if j.suspect || !j.event.Made {
		if done, refusal, err := j.before(ctx); done || refusal != nil || err != nil {
			return refusal, err
		}
	}
	to := j.match()
	if err := crashpoint.Reach(crashpoint.FanoutMatched); err != nil {
		return nil, err
	}
	for {
		broker := j.broker()
		if done, refusal, err := j.pass(ctx, to); done || refusal != nil || err != nil {
			return refusal, err
		}
		if j.broker() == broker {
			break
		}
		j.suspect = true // The broker that took the tasks died, and may have lost them.
	}
	return nil, crashpoint.Reach(crashpoint.FanoutRecorded)
}

// pass hands the event over and records it. Done says that another process has done so.
func (j *job) pass(ctx context.Context, to Receivers) (done bool, refusal *event.Refusal, err error) {
	if done, refusal, err := j.handOver(ctx, to.Targets, to.Revision); done || refusal != nil || err != nil {
		return done, refusal, err
	}
	if err := j.queue(ctx, to.Turns); err != nil {
		return false, nil, err
	}
	if err := crashpoint.Reach(crashpoint.FanoutHandedOver); err != nil {
		return false, nil, err
	}
	lag := j.now().Sub(j.event.AcceptedAt)
	err = j.persist(ctx, func(work context.Context) error {
		return j.ledger.Record(work, j.event, to.Count(), to.Revision)
	})
	if errors.Is(err, errOther) {
		return false, refuseID(), nil
	}
	if err != nil {
		return false, nil, err
	}
	if reason, warn := WarningOf(j.event); warn && !j.event.Checked {
		j.metrics.warned.WithLabelValues(string(reason)).Inc()
	}
	j.matched = to.Count()
	j.metrics.done(j.matched, lag)
	return false, nil, nil
}

// fresh makes the directory know every change that was made before now.
func (j *job) fresh(ctx context.Context) error {
	err := j.persist(ctx, func(work context.Context) error {
		_, err := j.dir.Fresh(work)
		return err
	})
	if err != nil {
		return fmt.Errorf("know the subscriptions for event %s: %w", j.event.ID, err)
	}
	return nil
}

// before asks the ledger. Done says that the event was fanned out before; another event of its id is a refusal, so
// that it does not vanish.
func (j *job) before(ctx context.Context) (done bool, refusal *event.Refusal, err error) {
	var v verdict
	err = j.persist(ctx, func(work context.Context) error {
		v, err = j.ledger.judge(work, j.event)
		return err
	})
	switch {
	case err != nil:
		return false, nil, err
	case v == conflict:
		return false, refuseID(), nil
	case v == repeat:
		j.metrics.repeats.Inc()
	}
	return v == repeat, nil, nil
}

func refuseID() *event.Refusal {
	return event.Refuse(event.Conflict, "id", "was used for another event within the last 24 hours")
}

// match returns where the event goes.
func (j *job) match() Receivers {
	matched := j.dir.MatchIDs(j.event)
	j.metrics.unkeyed.Add(float64(matched.Unkeyed))
	return ReceiversOf(j.event, matched)
}

// handOver puts the tasks on disk, unless it finds that another process has done so meanwhile.
func (j *job) handOver(
	ctx context.Context, targets []deliver.Target, revision int64,
) (done bool, refusal *event.Refusal, err error) {
	if len(targets) == 0 {
		return false, nil, nil
	}
	err = j.persist(ctx, func(work context.Context) error {
		if !j.suspect && j.now().Sub(j.since) > stale {
			j.suspect = true
			if done, refusal, err = j.before(ctx); done || refusal != nil || err != nil {
				return err
			}
		}
		err := j.out.Send(work, TasksOf(j.event, targets, deliver.Task{Revision: revision, Suspect: j.suspect, Counted: j.counted})...)
		// A hand-over that failed may be on disk all the same.
		j.suspect = j.suspect || err != nil
		return err
	})
	return done, refusal, err
}

// TasksOf splits an event's targets into tasks, which are else like one.
func TasksOf(e *event.Event, targets []deliver.Target, like deliver.Task) []deliver.Task {
	list := make([]deliver.Task, (len(targets)+deliver.MaxTargets-1)/deliver.MaxTargets)
	for i := range list {
		n := min(len(targets), deliver.MaxTargets)
		list[i] = like
		list[i].Event, list[i].Targets = *e, targets[:n:n]
		targets = targets[n:]
	}
	return list
}
