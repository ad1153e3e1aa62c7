package fanout

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Sieve holds events of the past against a subscription.
type Sieve struct {
	Reader    *Reader
	Bytes     Bytes
	Directory *subscriptions.Directory
	Remember  func(*deliver.Event) // is told of each event that matches; nil: nobody needs its bytes
}

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
	err := s.read(ctx, tenant, rows, func(uid uuid.UUID, e *Event) {
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
func (s Sieve) read(ctx context.Context, tenant string, rows []Recorded, take func(uuid.UUID, *Event)) error {
	if len(rows) == 0 {
		return nil
	}
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
	}
	return nil
}
