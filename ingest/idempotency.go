package ingest

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/group"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

const (
	// keyTTL is how long an id that a caller gave stands for its event. It is longer than fan-out's window, so
	// that an id which is free again here is free there as well.
	keyTTL = fanout.IdempotencyWindow + 30*time.Minute
	// keyAge is when old keys are removed. Keys between keyTTL and keyAge are taken over, not removed.
	keyAge = 48 * time.Hour
	// sweepInterval and sweepBatch are how often keys are removed and how many in one statement.
	sweepInterval = time.Minute
	sweepBatch    = 5000
	// refreshAfter is how old a key may be, whose event is sent once more, before its time starts anew.
	refreshAfter = time.Minute
)

// keys are the ids that callers gave. A key is written before its event is published, so that concurrent
// repeats meet here: one makes the key, the others find it with its hash.
type keys struct {
	db     *sql.DB
	ledger *fanout.Ledger
	now    func() time.Time
	group  *group.Committer[*call]
}

// claims are the ids of one request.
type claims []*claim

// claim is one id and what became of it.
type claim struct {
	key  event.Key
	hash [32]byte
	verdict
}

type verdict int

const (
	// publish: the key is new, or was made by a try that may never have reached the stream.
	publish verdict = iota
	// known: the event was accepted and fanned out.
	known
	// conflict: the key stands for other content.
	conflict
)

func newKeys(db *sql.DB, ledger *fanout.Ledger, now func() time.Time) *keys {
	k := &keys{db: db, ledger: ledger, now: now}
	size := func(c *call) int { return len(c.claims) }
	// Bytes counts claims here: one statement takes about two thousand.
	k.group = group.New(group.Limits{Count: 1000, Bytes: 2000, Timeout: 10 * time.Second}, size, k.commit)
	return k
}

// judge returns the verdict on each claim. Claims of one call are judged in their order.
func (k *keys) judge(ctx context.Context, c claims) ([]verdict, error) {
	one := &call{claims: c}
	err := k.group.Do(ctx, one)
	if err == nil {
		err = one.err
	}
	if err != nil {
		return nil, fmt.Errorf("claim ids: %w", err)
	}
	verdicts := make([]verdict, len(c))
	for i, one := range c {
		verdicts[i] = one.verdict
	}
	return verdicts, nil
}

// call is the claims of one caller.
type call struct {
	claims claims
	err    error // of this call alone
}

// commit judges a group. Should one call be at fault, it alone fails.
func (k *keys) commit(ctx context.Context, calls []*call) error {
	judge := func(list []*call) error { return k.judgeAll(ctx, list) }
	atFault := func(err error) bool { return !postgres.IsUnavailable(err) && ctx.Err() == nil }
	return group.Apart(calls, judge, atFault, func(c *call, err error) error {
		c.err = err
		return nil
	})
}

// judgeAll judges a group. The first claim of each key tries to make it; the others are compared with the stored
// one.
func (k *keys) judgeAll(ctx context.Context, calls []*call) error {
	firsts := make(map[event.Key]*claim)
	var all claims
	for _, c := range calls {
		for _, one := range c.claims {
			if firsts[one.key] == nil {
				firsts[one.key] = one
			}
			all = append(all, one)
		}
	}
	made, err := k.insert(ctx, firsts)
	if err != nil {
		return err
	}
	var rest claims
	for _, c := range all {
		if !made[c.key] || firsts[c.key] != c {
			rest = append(rest, c)
		}
	}
	if len(rest) == 0 {
		return nil
	}
	return k.compare(ctx, rest)
}

// insert makes the keys that are not there, or no longer valid, and returns them. Sorted, so that two processes
// never wait for each other's rows.
func (k *keys) insert(ctx context.Context, firsts map[event.Key]*claim) (map[event.Key]bool, error) {
	sorted := make(claims, 0, len(firsts))
	for _, c := range firsts {
		sorted = append(sorted, c)
	}
	slices.SortFunc(sorted, func(a, b *claim) int {
		return cmp.Or(cmp.Compare(a.key.Tenant, b.key.Tenant), cmp.Compare(a.key.ID, b.key.ID))
	})
	tenants, ids, hashes := make([]string, len(sorted)), make([]string, len(sorted)), make([][]byte, len(sorted))
	for i, c := range sorted {
		tenants[i], ids[i], hashes[i] = c.key.Tenant, c.key.ID, c.hash[:]
	}
	rows, err := k.db.QueryContext(ctx, `
		INSERT INTO event_keys AS k (tenant, id, hash)
		SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[])
		ON CONFLICT (tenant, id) DO UPDATE SET hash = excluded.hash, created_at = now()
			WHERE k.created_at < now() - $4 * interval '1 second'
		RETURNING k.tenant, k.id`,
		pq.StringArray(tenants), pq.StringArray(ids), pq.ByteaArray(hashes), keyTTL.Seconds())
	made := make(map[event.Key]bool, len(sorted))
	err = postgres.Each(rows, err, func() error {
		var key event.Key
		if err := rows.Scan(&key.Tenant, &key.ID); err != nil {
			return err
		}
		made[key] = true
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("insert keys: %w", err)
	}
	return made, nil
}

// compare judges claims whose key is there: the same content is known or sent once more, other content conflicts.
func (k *keys) compare(ctx context.Context, rest claims) error {
	there, err := k.read(ctx, rest)
	if err != nil {
		return err
	}
	var same []event.Key
	for _, c := range rest {
		if stored, ok := there[c.key]; ok && stored != c.hash {
			c.verdict = conflict
			continue
		}
		same = append(same, c.key)
	}
	if len(same) == 0 {
		return nil
	}
	accepted, err := k.ledger.Known(ctx, k.now().Add(-fanout.IdempotencyWindow), same)
	if err != nil {
		return err
	}
	var again []event.Key
	for _, c := range rest {
		entries := accepted[c.key]
		switch {
		case c.verdict == conflict:
		case len(entries) == 0:
			again = append(again, c.key)
		case slices.ContainsFunc(entries, func(e fanout.Entry) bool { return e.Hash == c.hash }):
			c.verdict = known
		default: // It came straight from NATS.
			c.verdict = conflict
		}
	}
	return k.refresh(ctx, again)
}

// read returns the hashes that the keys stand for.
func (k *keys) read(ctx context.Context, rest claims) (map[event.Key][32]byte, error) {
	tenants, ids := make([]string, len(rest)), make([]string, len(rest))
	for i, c := range rest {
		tenants[i], ids[i] = c.key.Tenant, c.key.ID
	}
	rows, err := k.db.QueryContext(ctx, `
		SELECT k.tenant, k.id, k.hash
		FROM event_keys k JOIN unnest($1::text[], $2::text[]) AS c(tenant, id) ON k.tenant = c.tenant AND k.id = c.id`,
		pq.StringArray(tenants), pq.StringArray(ids))
	hashes := make(map[event.Key][32]byte, len(rest))
	err = postgres.Each(rows, err, func() error {
		var key event.Key
		var hash []byte
		if err := rows.Scan(&key.Tenant, &key.ID, &hash); err != nil {
			return err
		}
		if len(hash) == 32 {
			hashes[key] = [32]byte(hash)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	return hashes, nil
}

// refresh starts the time of older keys anew whose event is sent once more: a key is never much older than its
// event, so it does not end while fan-out still holds the event for a repeat.
func (k *keys) refresh(ctx context.Context, again []event.Key) error {
	if len(again) == 0 {
		return nil
	}
	slices.SortFunc(again, func(a, b event.Key) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.ID, b.ID))
	})
	tenants, ids := make([]string, len(again)), make([]string, len(again))
	for i, key := range again {
		tenants[i], ids[i] = key.Tenant, key.ID
	}
	// The rows are locked in one order by all, as an UPDATE of a join would not do.
	_, err := k.db.ExecContext(ctx, `
		UPDATE event_keys SET created_at = now() WHERE (tenant, id) IN (
			SELECT k.tenant, k.id
			FROM event_keys k JOIN unnest($1::text[], $2::text[]) AS c(tenant, id) ON k.tenant = c.tenant AND k.id = c.id
			WHERE k.created_at < now() - $3 * interval '1 second'
			ORDER BY k.tenant, k.id FOR UPDATE OF k)`,
		pq.StringArray(tenants), pq.StringArray(ids), refreshAfter.Seconds())
	if err != nil {
		return fmt.Errorf("refresh keys: %w", err)
	}
	return nil
}

// sweep removes keys that are too old to matter, a batch at a time, and returns how many.
func (k *keys) sweep(ctx context.Context) (total int64, err error) {
	for {
		result, err := k.db.ExecContext(ctx, `
			DELETE FROM event_keys WHERE (tenant, id) IN (
				SELECT tenant, id FROM event_keys WHERE created_at < now() - $1 * interval '1 second'
				LIMIT $2 FOR UPDATE SKIP LOCKED)`,
			keyAge.Seconds(), sweepBatch)
		if err != nil {
			return total, fmt.Errorf("remove old keys: %w", err)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return total, fmt.Errorf("remove old keys: %w", err)
		}
		if total += n; n < sweepBatch {
			return total, nil
		}
	}
}
