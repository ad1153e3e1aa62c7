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

// sieve holds events of the past against a subscription.
type sieve struct {
	reader    *Reader
	bytes     Bytes
	directory *subscriptions.Directory
	remember  func(*deliver.Event) // is told of each event that matches; nil: nobody needs its bytes
}

// matching returns those of the rows, which are a tenant's, whose events match and can be sent. An event is read only where the
// ledger does not tell enough, or where its bytes are needed at once: reading is most of what the past costs.
func (s sieve) matching(ctx context.Context, tenant string, rows []recorded, sub *subscriptions.Subscription) ([]recorded, error) {
	var first, last uint64 // of those whose bytes are there, and are not needed here
	if s.remember == nil {
		var err error
		if first, last, err = s.reader.ends(ctx); err != nil {
			return nil, err
		}
	}
	candidate := s.directory.Candidate(sub)
	sure := make(map[uuid.UUID]bool, len(rows))
	var unread []recorded
	rows = slices.DeleteFunc(rows, func(row recorded) bool {
		may, does := true, false
		if row.targeted.Valid && !row.targeted.V {
			may, does = candidate.WouldByType(row.tenant, row.eventType)
		}
		sure[row.uid] = does && first <= row.seq && row.seq <= last
		if may && !sure[row.uid] {
			unread = append(unread, row)
		}
		return !may
	})
	hits, err := s.hits(ctx, tenant, unread, candidate)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(rows, func(row recorded) bool { return !sure[row.uid] && !hits[row.uid] }), nil
}

// hits reads the events of rows, and returns which of them match. Each event is judged as it is read, and not held: a page
// of events may be hundreds of megabytes.
func (s sieve) hits(ctx context.Context, tenant string, rows []recorded, candidate *subscriptions.Candidate) (map[uuid.UUID]bool, error) {
	hits := make(map[uuid.UUID]bool)
	err := s.read(ctx, tenant, rows, func(uid uuid.UUID, e *Event) {
		if e.Test || !candidate.Would(e) {
			return
		}
		hits[uid] = true
		if s.remember != nil {
			s.remember(e)
		}
	})
	return hits, err
}

// read reads the events of rows, once each: in one go where they lie close together, else one by one. Those whose bytes are
// gone are left out.
func (s sieve) read(ctx context.Context, tenant string, rows []recorded, take func(uuid.UUID, *Event)) error {
	if len(rows) == 0 {
		return nil
	}
	missing := make(map[uuid.UUID]bool, len(rows))
	low, high := rows[0].seq, rows[0].seq
	for _, row := range rows {
		missing[row.uid] = true
		low, high = min(low, row.seq), max(high, row.seq)
	}
	const sparse = 3 // a message that is read in vain costs about a third of one that is read alone
	if high-low <= uint64(sparse*len(rows)) {
		for e, err := range s.reader.between(ctx, tenant, low, high) {
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
		if !missing[row.uid] {
			continue
		}
		e, err := readEvent(ctx, s.reader, s.bytes, row)
		if err != nil && !errors.Is(err, event.ErrGone) {
			return err
		}
		// Whom an event named is in the stream alone. Those who had it can have it again, one by one; nobody else.
		if err == nil && !(row.targeted.V && len(e.Targets) == 0) {
			take(row.uid, e)
		}
	}
	return nil
}
