package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/lib/pq"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/crashpoint"
	"github.com/fanfarehq/fanfare/internal/group"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/retry"
	"github.com/fanfarehq/fanfare/internal/router"
	"github.com/fanfarehq/fanfare/internal/survive"
	"github.com/fanfarehq/fanfare/internal/suspect"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
	"github.com/fanfarehq/fanfare/internal/trouble"
)

// The bounds of one transaction of the recorder.
const (
	maxRecordMessages = 64
	maxRecordBytes    = 4 << 20
	recorderDrain     = 10 * time.Second
	recorderGather    = 10 * time.Millisecond // hardly anybody waits for what it writes
	quarantineTimeout = 5 * time.Second
)

// RecorderDeps are what a recorder works with.
type RecorderDeps struct {
	JS      natsjs.JetStream
	DB      *sql.DB
	Turns   *Turns           // nil: nothing is ordered
	Keys    *tenantkeys.Keys // nil: quarantined messages are stored in the clear
	Metrics *Metrics
	Logger  *slog.Logger
	// Suspects tells outcomes apart that kill the process; nil does not.
	Suspects *suspect.Guard
}

// Recorder writes the ledger: it takes outcomes from ATTEMPTS into Postgres, many in one transaction. Any number
// may run.
type Recorder struct {
	js      natsjs.JetStream
	ledger  *Ledger
	turns   *Turns
	metrics *Metrics
	log     *slog.Logger
	trouble *trouble.Log
	deadly  *suspect.Guard
	group   *group.Committer[*page]

	partitions *postgres.Partitions
}

// page is what one message holds.
type page struct {
	from    jetstream.Delivery
	records []*outcome.Record
	bytes   int
}

// NewRecorder makes a Recorder; Run starts it.
func NewRecorder(deps RecorderDeps) (*Recorder, error) {
	log := deps.Logger.With("stage", "recorder")
	r := &Recorder{
		js: deps.JS, ledger: New(deps.DB).With(deps.Keys), turns: deps.Turns, metrics: deps.Metrics, log: log, trouble: trouble.New(log),
		deadly: deps.Suspects, partitions: postgres.NewPartitions(deps.DB, log),
	}
	limits := group.Limits{Count: maxRecordMessages, Bytes: maxRecordBytes, Gather: recorderGather}
	r.group = group.New(limits, func(p *page) int { return p.bytes }, r.commit)
	return r, nil
}

// Run records until ctx ends. While Postgres is away outcomes wait in their stream.
func (r *Recorder) Run(ctx context.Context) error {
	run, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(router.ErrStopping)
	outcomes, err := router.New(ctx, router.Route{
		Name:   "recorder",
		Handle: func(msg *message.Message) error { return r.handle(run, msg) },
		PutAway: func(meta jetstream.Delivery, cause error, data []byte) error {
			return r.quarantine(run, meta, cause, data)
		},
		Last:  func(msg *message.Message) error { return r.standIns(run, msg) },
		About: aboutOutcomes, Guard: r.deadly, JS: r.js,
		Metrics: r.metrics.Routes, Drain: recorderDrain, Logger: r.log,
		Subscribers: []jetstream.SubscriberConfig{
			{Stream: Stream, Durable: Durable, MaxInFlight: 2 * maxRecordMessages},
		},
	})
	if err != nil {
		return err
	}
	if !r.partition(ctx) {
		return nil
	}
	var running sync.WaitGroup
	defer running.Wait()
	// It logs what it cannot do, and returns nil.
	running.Go(func() { _ = survive.Loop(run, r.log, "make partitions", r.partitions.Run) })
	err = router.Run(ctx, outcomes, func() { stop(router.ErrStopping) })
	r.ledger.Close()
	if err != nil {
		return fmt.Errorf("record outcomes: %w", err)
	}
	return nil
}

// partition makes the partitions before anything is recorded. Rows that are there before their partition are moved, and
// whoever reads at that moment misses them. It returns false if ctx ended before.
func (r *Recorder) partition(ctx context.Context) bool {
	pauses := retry.Pauses{First: time.Second, Most: time.Second}
	err := retry.Until(ctx, pauses, func() error { return r.partitions.Ensure(ctx) }, func(err error) bool {
		r.trouble.Note("nothing is recorded before there are partitions", err)
		return true
	})
	return err == nil
}

// handle records one message: the Router acknowledges it if the error is nil.
func (r *Recorder) handle(ctx context.Context, msg *message.Message) error {
	from, _ := jetstream.Meta(msg)
	records, err := outcome.Unpack(msg.Payload)
	if err != nil {
		return r.quarantine(ctx, from, err, msg.Payload)
	}
	return r.record(ctx, &page{from: from, records: records, bytes: len(msg.Payload)})
}

// standIns records what became of the deliveries of a message that is in quarantine, without the details.
func (r *Recorder) standIns(ctx context.Context, msg *message.Message) error {
	from, _ := jetstream.Meta(msg)
	records, err := outcome.Unpack(msg.Payload)
	if err != nil {
		return nil // Nothing can be known of them.
	}
	p := &page{from: from, bytes: len(msg.Payload)}
	for _, record := range records {
		if record.Valid() {
			p.records = append(p.records, standIn(record))
		}
	}
	return r.record(ctx, p)
}

// record writes what one message holds. While Postgres is away it waits.
func (r *Recorder) record(ctx context.Context, p *page) error {
	pauses := retry.Pauses{First: 50 * time.Millisecond, Most: 2 * time.Second}
	err := retry.Until(ctx, pauses, func() error { return r.commitInGroup(ctx, p) }, func(err error) bool {
		r.trouble.Note("outcomes wait to be recorded", err)
		return true
	})
	if err != nil {
		return router.ErrStopping
	}
	return nil
}

// commitInGroup gathers pages, unless somebody waits for this one.
func (r *Recorder) commitInGroup(ctx context.Context, p *page) error {
	if p.from.Subject == waitedSubject {
		return r.group.DoNow(ctx, p)
	}
	return r.group.Do(ctx, p)
}

// commit writes a group. If Postgres refuses it, the records at fault are told apart.
func (r *Recorder) commit(ctx context.Context, pages []*page) error {
	n := 0
	for _, p := range pages {
		n += len(p.records)
	}
	all := make([]*outcome.Record, 0, n)
	for _, p := range pages {
		all = append(all, p.records...)
	}
	err := r.write(ctx, all)
	if Refused(err) {
		return r.commitApart(ctx, pages)
	}
	if err == nil {
		r.metrics.WrittenRows.Add(float64(n))
		r.metrics.GroupSize.Observe(float64(n))
	}
	return err
}

// Write records, and lets the keys go on whose delivery ended. If that fails, a sweep does it.
func (r *Recorder) write(ctx context.Context, records []*outcome.Record) error {
	var places []Place
	err := r.recovering(func() (err error) {
		if !outcome.AllValid(records) {
			return outcome.ErrRecord
		}
		if err := crashpoint.Reach(crashpoint.RecorderReceived); err != nil {
			return err
		}
		if places, err = r.ledger.writeOrdered(ctx, records); err != nil {
			return err
		}
		return crashpoint.Reach(crashpoint.RecorderWritten)
	})
	if err != nil || r.turns == nil {
		return err
	}
	if err := r.turns.pass(ctx, places); err != nil {
		r.trouble.Note("deliveries wait for their turn", err)
	}
	return nil
}

// Refused reports whether Postgres will never take what it was given: data that does not fit its type, breaks a constraint or
// makes the writing panic.
func Refused(err error) bool {
	if errors.Is(err, errUnrecordable) || errors.Is(err, outcome.ErrRecord) {
		return true
	}
	e, ok := errors.AsType[*pq.Error](err)
	if !ok {
		return false
	}
	class := e.Code.Class()
	return class == "22" || class == "23"
}

// Quarantine keeps a message that cannot be recorded. If Postgres is away it comes again.
func (r *Recorder) quarantine(ctx context.Context, meta jetstream.Delivery, cause error, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, quarantineTimeout)
	defer cancel()
	err := r.ledger.Quarantine(ctx, Poison{
		Subject: meta.Subject, Seq: meta.Sequence, At: meta.Timestamp, Reason: QuarantineReason(cause), Detail: cause.Error(), Data: data,
	})
	if err != nil {
		return err
	}
	r.metrics.Quarantined.Inc()
	r.log.Error("unreadable outcomes are in quarantine", "seq", meta.Sequence, "cause", cause)
	return nil
}

// aboutOutcomes returns what a message of outcomes is about: its deliveries. A repeat may have another number of attempts.
func aboutOutcomes(msg *message.Message) []suspect.Subject {
	records, err := outcome.Unpack(msg.Payload)
	if err != nil {
		return nil
	}
	list := make([]suspect.Subject, len(records))
	for i, r := range records {
		list[i] = suspect.Of(r.Delivery.String())
	}
	return list
}
