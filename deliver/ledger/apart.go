package ledger

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/group"
)

// errUnrecordable marks what recording panicked with.
var errUnrecordable = errors.New("recording panicked")

// outcomeOf is a record with its place.
type outcomeOf struct {
	record *outcome.Record
	page   *page
	index  int
}

// commitApart writes a group that was refused so that the records at fault are alone. Such a record gets a stand-in, for its
// delivery to end or to wait as it did, and goes to quarantine as it is.
func (r *Recorder) commitApart(ctx context.Context, pages []*page) error {
	var all []outcomeOf
	for _, p := range pages {
		for i, rec := range p.records {
			all = append(all, outcomeOf{rec, p, i})
		}
	}
	write := func(list []outcomeOf) error {
		records := make([]*outcome.Record, len(list))
		for i, o := range list {
			records[i] = o.record
		}
		return r.write(ctx, records)
	}
	return group.Apart(all, write, Refused, func(o outcomeOf, cause error) error {
		return r.standIn(ctx, o, cause)
	})
}

// standIn quarantines a record and writes its stand-in.
func (r *Recorder) standIn(ctx context.Context, o outcomeOf, cause error) error {
	from := o.page.from
	err := r.ledger.Quarantine(ctx, Poison{
		Subject: from.Subject, Seq: from.Sequence, Index: o.index + 1, At: from.Timestamp, Tenant: outcome.SanitizeText(o.record.Tenant),
		Reason: QuarantineInternal, Detail: fmt.Sprintf("the outcome of delivery %s cannot be written: %v", o.record.Delivery, cause),
		Data: o.record.Append(nil),
	})
	if err != nil {
		return err
	}
	r.metrics.Quarantined.Inc()
	r.log.Error("unwritable outcome quarantined", "seq", from.Sequence, "delivery", o.record.Delivery, "error", cause)
	err = r.write(ctx, []*outcome.Record{standIn(o.record)})
	if Refused(err) {
		r.log.Error("cannot write outcome without its details", "delivery", o.record.Delivery, "error", err)
		return nil
	}
	return err
}

// standIn returns a copy of a record that Postgres accepts: texts are cleaned, numbers are in range, and the attempt keeps only
// its number, time and reason.
func standIn(r *outcome.Record) *outcome.Record {
	s := *r
	for _, text := range []*string{&s.EventID, &s.EventType, &s.Tenant} {
		*text = outcome.SanitizeText(*text)
	}
	s.Reason = outcome.Reason(outcome.SanitizeText(string(s.Reason)))
	for _, n := range []*int{&s.Generation, &s.Step, &s.Attempts} {
		*n = max(min(*n, math.MaxInt32), 0)
	}
	s.Seq = min(s.Seq, math.MaxInt64)
	s.CreatedAt, s.At, s.Event = recordable(s.CreatedAt), recordable(s.At), nil
	if a := s.Attempt; a != nil {
		s.Attempt = &outcome.Made{
			Number: max(min(a.Number, math.MaxInt32), 0), StartedAt: recordable(a.StartedAt), Reason: outcome.Reason(outcome.SanitizeText(string(a.Reason))),
			Error: "internal error: the attempt could not be recorded; see the quarantine",
		}
	}
	return &s
}

// recordable replaces a time that Postgres or JSON cannot hold.
func recordable(at time.Time) time.Time {
	if at.Year() < 1970 || at.Year() > 9999 {
		return time.Now()
	}
	return at
}

// recovering turns a panic of do into an error that counts as a refusal.
func (r *Recorder) recovering(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.metrics.Panics.Inc()
			r.log.Error("recording panicked", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("%w: %v", errUnrecordable, p)
		}
	}()
	return do()
}
