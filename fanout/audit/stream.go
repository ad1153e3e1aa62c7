package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// seen is a message of the stream as an audit sees it, without its bytes.
type seen struct {
	wire    event.Wire
	event   *event.Event
	refusal *event.Refusal
}

// holdStreamAgainstLedger counts the events of a span in both and names those that only one has. The messages of the
// stream come in the order of their times, so the ledger is read in windows beside them.
func (a *Auditor) holdStreamAgainstLedger(ctx context.Context, span ledger.Span, r *Audit) error {
	stream, err := a.JetStream.Stream(ctx, fanout.Stream)
	if err != nil {
		return fmt.Errorf("look at stream %s: %w", fanout.Stream, err)
	}
	consumer, err := stream.Consumer(ctx, fanout.Durable)
	if err != nil {
		return fmt.Errorf("look at consumer %s: %w", fanout.Durable, err)
	}
	// Read before the ledger, which has all events acknowledged by now.
	s := &streamAudit{Auditor: a, report: r, span: span, from: span.Since, first: stream.CachedInfo().State.FirstSeq}
	if at := consumer.CachedInfo(); at.NumPending == 0 && at.NumAckPending == 0 {
		s.done = stream.CachedInfo().State.LastSeq // a floor does not move over deleted messages
	}
	s.done = max(s.done, consumer.CachedInfo().AckFloor.Stream)
	for opt := jetstreamext.GetBatchStartTime(span.Since); opt != nil; {
		next, err := s.batch(ctx, opt)
		if err != nil {
			return err
		}
		opt = nil
		if next > 0 {
			opt = jetstreamext.GetBatchSeq(next)
		}
	}
	return s.flush(ctx, span.Until)
}

// streamAudit goes along the stream.
type streamAudit struct {
	*Auditor
	report *Audit
	span   ledger.Span
	first  uint64    // of the stream's messages
	made   time.Time // when the stream was created
	done   uint64    // up to here fan-out has done its work
	from   time.Time
	seen   []seen
}

// batch reads messages and returns where the next ones begin; 0 at the end of the span or of the stream.
func (s *streamAudit) batch(ctx context.Context, from jetstreamext.GetBatchOpt) (next uint64, err error) {
	messages := jetstream.Stored(ctx, s.JetStream, fanout.Stream, fanout.ReadMessages, from, jetstreamext.GetBatchMaxBytes(fanout.ReadBytes))
	for raw, err := range messages {
		if err != nil {
			return 0, err
		}
		next = raw.Sequence + 1
		w := event.Stored(raw)
		if !w.At.Before(s.span.Until) {
			return 0, nil
		}
		if w.At.Before(s.span.Since) { // The clock of the broker was set back.
			continue
		}
		if of := s.span.Tenant; of != "" && !strings.HasPrefix(w.Subject, event.SubjectPrefix+of+".") {
			continue
		}
		m := seen{wire: w}
		m.event, m.refusal = event.Decode(w)
		m.wire.Data, m.event.Data = nil, nil // a window of whole events may be hundreds of megabytes
		s.seen = append(s.seen, m)
	}
	// Messages of the last millisecond may go on in the next batch, so they stay for the next window.
	if n := len(s.seen); n >= auditWindow {
		cut := s.seen[n-1].wire.At.Truncate(time.Millisecond)
		if s.seen[0].wire.At.Before(cut) {
			return next, s.flush(ctx, cut)
		}
	}
	return next, nil
}

// flush compares a window with the ledger: the events seen from the last window's end to this one's.
func (s *streamAudit) flush(ctx context.Context, to time.Time) error {
	n := 0
	for n < len(s.seen) && s.seen[n].wire.At.Before(to) {
		n++
	}
	window := s.seen[:n]
	rows, aged, err := s.store.window(ctx, ledger.Span{Since: s.from, Until: to, Tenant: s.span.Tenant}, s.first)
	if err != nil {
		return err
	}
	s.report.Accepted += aged
	s.report.InLedger += aged
	var lone []seen
	for _, m := range window {
		if m.event != nil {
			if _, ok := rows[m.event.UID]; ok {
				delete(rows, m.event.UID)
				s.report.Accepted++
				s.report.InStream++
				s.report.InLedger++
				continue
			}
		}
		lone = append(lone, m)
	}
	deleted, err := s.store.deletedTenants(ctx, lone, rows)
	if err != nil {
		return err
	}
	if err := s.alone(ctx, lone, deleted); err != nil {
		return err
	}
	for uid, row := range rows {
		if deleted[row.Tenant] { // Its erasure takes messages before rows.
			s.report.Accepted++
			s.report.InLedger++
			continue
		}
		if err := s.rowAlone(ctx, uid, row); err != nil {
			return err
		}
	}
	s.seen = append(s.seen[:0], s.seen[n:]...)
	s.from = to
	return nil
}

// alone judges messages that the ledger has no row of: they may be repeats, no valid events, yet to be fanned out, or of a
// tenant that is being erased.
func (s *streamAudit) alone(ctx context.Context, lone []seen, deleted map[string]bool) error {
	if len(lone) == 0 {
		return nil
	}
	quarantined, err := s.store.quarantined(ctx, lone)
	if err != nil {
		return err
	}
	trimmed, err := s.store.trimmed(ctx, lone)
	if err != nil {
		return err
	}
	for _, m := range lone {
		if quarantined[m.wire.Seq] {
			continue
		}
		if trimmed[m.wire.Seq] {
			refused, err := s.refused(ctx, m)
			if err != nil {
				return err
			}
			if refused {
				continue
			}
		}
		if m.event != nil && m.refusal == nil {
			repeat, err := s.repeat(ctx, m.event)
			if err != nil {
				return err
			}
			if repeat {
				continue
			}
		}
		s.report.Accepted++
		s.report.InStream++
		erasing := m.event != nil && deleted[m.event.Tenant]
		if m.wire.Seq <= s.done && !erasing {
			s.report.Gaps = append(s.report.Gaps, s.noRow(m))
		}
	}
	return nil
}

// refused reports whether fan-out refuses a message, once more.
func (s *streamAudit) refused(ctx context.Context, m seen) (bool, error) {
	if m.refusal != nil {
		return true, nil
	}
	w, err := s.Reader.Message(ctx, m.wire.Seq)
	if errors.Is(err, event.ErrGone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	e, refusal := event.Decode(w)
	if refusal == nil {
		refusal, err = s.refusal(ctx, e, w)
	}
	return refusal != nil, err
}

// repeat reports whether the ledger has another event of the same id near in time.
func (s *streamAudit) repeat(ctx context.Context, e *event.Event) (bool, error) {
	known, err := s.Ledger.Known(ctx, e.AcceptedAt.Add(-fanout.IdempotencyWindow), []event.Key{e.Key()})
	if err != nil {
		return false, err
	}
	for _, entry := range known[e.Key()] {
		if entry.AcceptedAt.Sub(e.AcceptedAt) <= fanout.IdempotencyWindow {
			return true, nil
		}
	}
	return false, nil
}

// noRow is the gap of a message that fan-out has acknowledged without a trace.
func (s *streamAudit) noRow(m seen) Gap {
	g := Gap{Kind: gapNoRow}
	if m.event != nil {
		g.EventID = m.event.ID
	} else {
		g.Detail = fmt.Sprintf("message %d of %s, subject %s", m.wire.Seq, fanout.Stream, m.wire.Subject)
	}
	if s.Outbox != nil {
		g.mend = func(ctx context.Context) error { return s.handle(ctx, m.wire.Seq) }
	}
	return g
}

// handle reads a message once more, with its bytes, and does with it as fan-out would.
func (s *streamAudit) handle(ctx context.Context, seq uint64) error {
	w, err := s.Reader.Message(ctx, seq)
	if err != nil {
		return err
	}
	e, refusal := event.Decode(w)
	if refusal != nil {
		return s.Ledger.Quarantine(ctx, w, refusal)
	}
	return s.refan(ctx, e, w)
}

// leftSince reports whether the stream has let go of a place since the audit began, by age or to make room.
func (s *streamAudit) leftSince(ctx context.Context, seq uint64) (bool, error) {
	if seq < s.first {
		return true, nil
	}
	stream, err := s.JetStream.Stream(ctx, fanout.Stream)
	if err != nil {
		return false, fmt.Errorf("look at stream %s: %w", fanout.Stream, err)
	}
	s.first = max(s.first, stream.CachedInfo().State.FirstSeq)
	s.made = stream.CachedInfo().Created
	return seq < s.first, nil
}

// whyGone says what became of the bytes of an event, as far as the stream tells. There is what is at the event's place, or nil.
func (s *streamAudit) whyGone(row fanout.Recorded, there *event.Event) string {
	switch {
	case row.AcceptedAt.Before(s.made):
		return fmt.Sprintf("stream %s was made after the event was accepted: the former stream was lost", fanout.Stream)
	case there != nil:
		return fmt.Sprintf("another event is at place %d of stream %s: the stream is older than the ledger, as after a restore", row.Seq, fanout.Stream)
	default:
		return fmt.Sprintf("place %d of stream %s is empty", row.Seq, fanout.Stream)
	}
}

// rowAlone judges a row whose message did not come by: it may have been erased, or its bytes are kept elsewhere.
func (s *streamAudit) rowAlone(ctx context.Context, uid uuid.UUID, row fanout.Recorded) error {
	s.report.Accepted++
	s.report.InLedger++
	e, err := s.Reader.Read(ctx, row.Seq)
	switch {
	case err == nil && e.As(uid) != nil: // Out of order: the broker's clock was set back.
		s.report.InStream++
		return nil
	case err != nil && !errors.Is(err, fanout.ErrGone):
		return err
	}
	if left, err := s.leftSince(ctx, row.Seq); err != nil || left || len(s.report.Gaps) >= maxGaps {
		return err
	}
	s.report.Gaps = append(s.report.Gaps, Gap{Kind: gapNoBytes, EventID: row.ID, Detail: s.whyGone(row, e), lost: true, mend: func(ctx context.Context) error {
		s.Logger.WarnContext(ctx, "an event's bytes are gone before their time", "event", row.ID, "tenant", row.Tenant)
		return s.Ledger.SetErased(ctx, uid)
	}})
	return nil
}
