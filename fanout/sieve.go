package fanout

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Sieve holds events of the past against a subscription.
type Sieve struct {
	Reader    *Reader
	Bytes     Bytes
	Directory *subscriptions.Directory
	Remember  func(*event.Event) // is told of each event that matches; nil: nobody needs its bytes
	// Rest is how many times as long as the work on events took the sieve rests, each few milliseconds, so that live
	// events go first. On a busy machine work takes longer, and so does the rest.
	Rest int
}

// workFor is how long a sieve works on events until it rests.
const workFor = 4 * time.Millisecond

// Matching returns those of the rows, which are a tenant's, whose events match and can be sent. An event is read only where the
// ledger does not tell enough, or where its bytes are needed at once: reading is most of what the past costs.
func (s Sieve) Matching(ctx context.Context, tenant string, rows []Recorded, sub *subscriptions.Subscription) ([]Recorded, error) {
	var first, last uint64 // of those whose bytes are there, and are not needed here
	if s.Remember == nil {
		var err error
		if first, last, err = s.Reader.ends(ctx); err != nil {
			return nil, err
		}
	}
	candidate := s.Directory.Candidate(sub)
	sure := make(map[uuid.UUID]bool, len(rows))
	var unread []Recorded
	rows = slices.DeleteFunc(rows, func(row Recorded) bool {
		may, does := true, false
		if row.Targeted.Valid && !row.Targeted.V {
			may, does = candidate.WouldByType(row.Tenant, row.Type)
		}
		sure[row.UID] = does && first <= row.Seq && row.Seq <= last
		if may && !sure[row.UID] {
			unread = append(unread, row)
		}
		return !may
	})
	hits, err := s.hits(ctx, tenant, unread, candidate)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(rows, func(row Recorded) bool { return !sure[row.UID] && !hits[row.UID] }), nil
}

// hits reads the events of rows, and returns which of them match. Each event is judged as it is read, and not held: a page
// of events may be hundreds of megabytes.
func (s Sieve) hits(ctx context.Context, tenant string, rows []Recorded, candidate *subscriptions.Candidate) (map[uuid.UUID]bool, error) {
	hits := make(map[uuid.UUID]bool)
	err := s.read(ctx, tenant, rows, func(uid uuid.UUID, e *event.Event) {
		if e.Test || !candidate.Would(e) {
			return
		}
		hits[uid] = true
		if s.Remember != nil {
			s.Remember(e)
		}
	})
	return hits, err
}

// read reads the events of rows, once each: in one go where they lie close together, else one by one. Those whose bytes are
// gone are left out.
func (s Sieve) read(ctx context.Context, tenant string, rows []Recorded, take func(uuid.UUID, *event.Event)) error {
	if len(rows) == 0 {
		return nil
	}
	pause := s.pause()
	missing := make(map[uuid.UUID]bool, len(rows))
	low, high := rows[0].Seq, rows[0].Seq
	for _, row := range rows {
		missing[row.UID] = true
		low, high = min(low, row.Seq), max(high, row.Seq)
	}
	const sparse = 3 // a message that is read in vain costs about a third of one that is read alone
	if high-low <= uint64(sparse*len(rows)) {
		for e, err := range s.Reader.between(ctx, tenant, low, high) {
			if err != nil {
				return err
			}
			if uid := e.UID; missing[uid] {
				delete(missing, uid)
				take(uid, e)
			}
			if err := pause(ctx); err != nil {
				return err
			}
		}
	}
	for _, row := range rows {
		if !missing[row.UID] {
			continue
		}
		e, err := ReadEvent(ctx, s.Reader, s.Bytes, row)
		if err != nil && !errors.Is(err, event.ErrGone) {
			return err
		}
		// Whom an event named is in the stream alone. Those who had it can have it again, one by one; nobody else.
		if err == nil && !(row.Targeted.V && len(e.Targets) == 0) {
			take(row.UID, e)
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
	return nil
}

// pause returns a function that rests, where it is time. Its error is that of the context.
func (s Sieve) pause() func(context.Context) error {
	begun := time.Now()
	return func(ctx context.Context) error {
		worked := time.Since(begun)
		if s.Rest == 0 || worked < workFor {
			return nil
		}
		if err := rest(ctx, time.Duration(s.Rest)*worked); err != nil {
			return err
		}
		begun = time.Now()
		return nil
	}
}

// rest waits so long. The error is that of the context.
func rest(ctx context.Context, so time.Duration) error {
	timer := time.NewTimer(so)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
