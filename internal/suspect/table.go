package suspect

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/group"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

const (
	// countTimeout bounds a commit. Messages wait for it.
	countTimeout = 30 * time.Second
	// restAfterFailure is for how long nothing is counted after a commit failed.
	restAfterFailure = 5 * time.Second
	// countAge is how long a count lasts after its last message: whoever repeats work does so sooner.
	countAge = 24 * time.Hour
	// maxLeftovers bounds one removal of counts that are older.
	maxLeftovers = 10_000
	// maxRows bounds one commit, as a message can be about a thousand things.
	maxRows = 10_000
)

// count is in how many processes in a row the handling of a message, or of another one about the same, was begun and did not end.
type count struct {
	stage string
	about []Subject
	tries int // this time included; the most of all that the message is about
}

// row is where a subject is counted.
type row struct {
	stage string
	about Subject
}

// table is where Postgres keeps the counts.
type table struct {
	db        *sql.DB
	life      uuid.UUID // names this process
	beginning *group.Committer[*count]
	ending    *group.Committer[*count]
	resting   atomic.Int64 // until when nothing is counted, in Unix nanoseconds
	sweep     sync.Once

	mu     sync.Mutex
	inHand map[row]int // messages of this process that are about it
}

func newTable(db *sql.DB) *table {
	t := &table{db: db, life: uuid.New(), inHand: make(map[row]int)}
	limits := group.Limits{Count: 1000, Bytes: maxRows, Timeout: countTimeout}
	size := func(c *count) int { return len(c.about) }
	t.beginning = group.New(limits, size, t.beginAll)
	t.ending = group.New(limits, size, t.endAll)
	return t
}

// begin counts one more, up to MaxTries. A message that had so many already gets MaxTries+1, and is counted by beginAlone.
func (t *table) begin(c *count) error {
	if until := t.resting.Load(); until > time.Now().UnixNano() {
		return fmt.Errorf("count suspect message: %w", postgres.ErrUnavailable)
	}
	t.hold(c)
	err := t.beginning.Do(context.Background(), c)
	if err != nil {
		t.release(c)
		t.resting.Store(time.Now().Add(restAfterFailure).UnixNano())
	}
	return err
}

func (t *table) beginAll(ctx context.Context, list []*count) error {
	t.sweep.Do(func() { t.dropLeftovers(ctx) })
	rows, err := t.db.QueryContext(ctx, `
INSERT INTO suspect_subjects AS s (stage, about, life)
SELECT o.*, $3 FROM unnest($1::text[], $2::uuid[]) AS o
ON CONFLICT (stage, about) DO UPDATE SET life = excluded.life, begun_at = now(), tries = CASE
    WHEN s.begun_at < now() - $5 * interval '1 second' THEN 1 WHEN s.life = excluded.life THEN s.tries ELSE s.tries + 1 END
WHERE s.tries < $4 OR s.tries = $4 AND s.life = excluded.life OR s.begun_at < now() - $5 * interval '1 second'
RETURNING stage, about, tries`, append(columns(list), t.life, MaxTries, int64(countAge.Seconds()))...)
	tries := make(map[row]int)
	err = postgres.Each(rows, err, func() error {
		var r row
		var n int
		if err := rows.Scan(&r.stage, &r.about, &n); err != nil {
			return err
		}
		tries[r] = n
		return nil
	})
	if err != nil {
		return fmt.Errorf("read counts of suspect messages: %w", err)
	}
	for _, c := range list {
		c.tries = 0
		for _, about := range c.about {
			n, counted := tries[row{c.stage, about}]
			if !counted {
				n = MaxTries + 1
			}
			c.tries = max(c.tries, n)
		}
	}
	return nil
}

// beginAlone counts one more of a message that is handled alone, for everything that it is about.
func (t *table) beginAlone(ctx context.Context, c *count) error {
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	err := t.db.QueryRowContext(ctx, `
WITH begun AS (
    INSERT INTO suspect_subjects AS s (stage, about, life, tries)
    SELECT o.*, $3, $4 FROM unnest($1::text[], $2::uuid[]) AS o
    ON CONFLICT (stage, about) DO UPDATE SET life = excluded.life, begun_at = now(), tries = greatest(s.tries + 1, excluded.tries)
    RETURNING tries
)
SELECT max(tries) FROM begun`, append(columns([]*count{c}), t.life, MaxTries+1)...).Scan(&c.tries)
	if err != nil {
		return fmt.Errorf("count suspect message: %w", err)
	}
	return nil
}

// end forgets a message whose handling ended, but not what other messages in hand are about as well. If Postgres is away the
// count stays, and is removed with the leftovers.
func (t *table) end(c *count) {
	last := &count{stage: c.stage, about: t.release(c)}
	if len(last.about) > 0 {
		_ = t.ending.Do(context.Background(), last)
	}
}

// endAlone is end for a message that was handled alone. What other messages in hand are about as well keeps the count of the
// deaths before: nothing died of this one.
func (t *table) endAlone(c *count) {
	t.lower(c)
	t.end(c)
}

func (t *table) endAll(ctx context.Context, list []*count) error {
	_, err := t.db.ExecContext(ctx, `
DELETE FROM suspect_subjects s USING unnest($1::text[], $2::uuid[]) AS o (stage, about)
WHERE s.stage = o.stage AND s.about = o.about`, columns(list)...)
	if err != nil {
		return fmt.Errorf("forget suspect messages: %w", err)
	}
	return nil
}

// unbegun takes back what begin counted of a message that was not handled.
func (t *table) unbegun(c *count) {
	if c.tries > MaxTries {
		t.release(c) // It was not counted.
		return
	}
	t.takeBack(c)
}

// takeBack takes the last try of a message back, as the process did not die of it. What came before it stays.
func (t *table) takeBack(c *count) {
	t.release(c)
	t.lower(c)
}

// lower counts one less.
func (t *table) lower(c *count) {
	ctx, cancel := context.WithTimeout(context.Background(), countTimeout)
	defer cancel()
	_, _ = t.db.ExecContext(ctx, `
UPDATE suspect_subjects s SET tries = greatest(s.tries - 1, 0) FROM unnest($1::text[], $2::uuid[]) AS o (stage, about)
WHERE s.stage = o.stage AND s.about = o.about`, columns([]*count{c})...)
}

// hold notes that a message is in hand.
func (t *table) hold(c *count) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, about := range c.about {
		t.inHand[row{c.stage, about}]++
	}
}

// release notes that it is no longer, and returns what no other message in hand is about.
func (t *table) release(c *count) (last []Subject) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, about := range c.about {
		r := row{c.stage, about}
		if t.inHand[r]--; t.inHand[r] == 0 {
			delete(t.inHand, r)
			last = append(last, about)
		}
	}
	return last
}

// dropLeftovers removes counts of long ago.
func (t *table) dropLeftovers(ctx context.Context) {
	_, _ = t.db.ExecContext(ctx, `
DELETE FROM suspect_subjects WHERE (stage, about) IN (
    SELECT stage, about FROM suspect_subjects WHERE begun_at < now() - $1 * interval '1 second' ORDER BY begun_at LIMIT $2)`,
		int64(countAge.Seconds()), maxLeftovers)
}

// columns returns what counts are about, each once, in an order that all processes keep: so none waits for another in a circle.
func columns(list []*count) []any {
	var rows []row
	for _, c := range list {
		for _, about := range c.about {
			rows = append(rows, row{c.stage, about})
		}
	}
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.stage, b.stage), slices.Compare(a.about[:], b.about[:]))
	})
	rows = slices.Compact(rows)
	c := postgres.Columns(2, len(rows))
	for _, r := range rows {
		c[0].Text(r.stage)
		c[1].UUID(r.about)
	}
	return postgres.Args(c)
}
