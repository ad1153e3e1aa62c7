package replay

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/quota"
)

var (
	errNoReplay = errors.New("no such replay")
	// errNotMine says that a replay was paused, cancelled or taken over: this process has no more to do with it.
	errNotMine = errors.New("the replay is not this process's")
)

// replayLease is how long a process that died keeps others from its replays.
const replayLease = 10 * time.Second

// replayStore is all SQL of replays.
type replayStore struct {
	db     *sql.DB
	quotas *quota.Quotas // of those that create; nil bounds nothing
}

func newReplayStore(db *sql.DB) *replayStore { return &replayStore{db: db} }

const replayColumns = `id, tenant, subscription_id, which, since, until, event_id, types, rate, dry_run, state, counted, matched, unreachable, sent,
	place, last_seq, created_at, ended_at, kind, filter, expect, end_reason`

func scanReplay(row interface{ Scan(...any) error }) (*replay, error) {
	p := &replay{}
	var types pq.StringArray
	var asked []byte
	err := row.Scan(&p.id, &p.tenant, &p.subscription, &p.only, &p.span.Since, &p.span.Until, &p.eventID, &types, &p.rate, &p.dryRun,
		&p.state, &p.counted, &p.matched, &p.unreachable, &p.sent, &p.place, &p.lastSeq, &p.createdAt, &p.endedAt, &p.kind, &asked, &p.expect, &p.endReason)
	p.types = types
	if err == nil {
		err = json.Unmarshal(asked, &p.filter)
	}
	return p, err
}

// create writes a replay that is to begin. It fails with an *api.LimitError.
func (s *replayStore) create(ctx context.Context, p *replay) (made *replay, err error) {
	err = postgres.Retry(ctx, s.db, func(ctx context.Context, tx *sql.Tx) error {
		made, err = s.createIn(ctx, tx, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("create replay: %w", err)
	}
	return made, nil
}

// createIn is create as part of a transaction.
func (s *replayStore) createIn(ctx context.Context, tx *sql.Tx, p *replay) (*replay, error) {
	if p.tenant != "" { // A job over all tenants is an admin's.
		bounds, err := s.quotas.Lock(ctx, tx, p.tenant)
		if err != nil {
			return nil, err
		}
		open, err := openReplays(ctx, tx, p.tenant)
		if err != nil {
			return nil, err
		}
		if err := bounds.Check(quota.Replays, open, 1); err != nil {
			return nil, err
		}
	}
	asked, err := p.filter.value()
	if err != nil {
		return nil, err
	}
	if p.kind == "" {
		p.kind = kindReplay
	}
	return scanReplay(tx.QueryRowContext(ctx, `
INSERT INTO replays (id, tenant, subscription_id, which, since, until, event_id, types, rate, dry_run, state, kind, filter, expect)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'counting', $11, $12::jsonb, $13) RETURNING `+replayColumns,
		p.id, p.tenant, p.subscription, string(p.only), p.span.Since, p.span.Until, p.eventID,
		pq.StringArray(append([]string{}, p.types...)), p.rate, p.dryRun, string(p.kind), asked, p.expect))
}

// openReplays is how many replays of a tenant are under way.
func openReplays(ctx context.Context, db interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, tenant string) (n int64, err error) {
	err = db.QueryRowContext(ctx, `SELECT count(*) FROM replays WHERE tenant = $1 AND state IN ('counting', 'running', 'paused')`, tenant).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count replays: %w", err)
	}
	return n, nil
}

// get returns a replay of a tenant, of any if tenant is empty; errNoReplay.
func (s *replayStore) get(ctx context.Context, id uuid.UUID, tenant string) (*replay, error) {
	p, err := scanReplay(s.db.QueryRowContext(ctx,
		`SELECT `+replayColumns+` FROM replays WHERE id = $1 AND ($2 = '' OR tenant = $2)`, id, tenant))
	if errors.Is(err, sql.ErrNoRows) {
		return &replay{}, errNoReplay
	}
	if err == nil {
		err = s.unsent(ctx, p)
	}
	if err != nil {
		return &replay{}, fmt.Errorf("read replay %s: %w", id, err)
	}
	return p, nil
}

// waiting is the condition of the deliveries that a replay has made and that were not sent yet.
const waiting = `attempts = 0 AND worker = ''`

// unsent takes what replays have made and not sent off what they have sent.
func (s *replayStore) unsent(ctx context.Context, list ...*replay) error {
	of := make(map[uuid.UUID]*replay, len(list))
	ids := make([]uuid.UUID, 0, len(list))
	for _, p := range list {
		if p.kind == kindReplay && p.sent > 0 {
			of[p.id], ids = p, append(ids, p.id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	rows, err := s.db.QueryContext(ctx, `
SELECT replay_id, count(*) FROM deferrals WHERE replay_id = ANY ($1::uuid[]) AND `+waiting+` GROUP BY replay_id`, ledger.Uuids(ids))
	return postgres.Each(rows, err, func() error {
		var id uuid.UUID
		var n int64
		if err := rows.Scan(&id, &n); err != nil {
			return err
		}
		of[id].sent -= n
		return nil
	})
}

// move changes the state, if it is one of those. A replay that had not been counted goes on counting. Of one that is paused
// or cancelled no request begins any more once this returned; what workers have in hand is waited for.
func (s *replayStore) move(ctx context.Context, id uuid.UUID, to replayState, from []replayState) error {
	states := make([]string, len(from))
	for i, f := range from {
		states[i] = string(f)
	}
	stops := to == replayPaused || to == replayCancelled
	err := postgres.Retry(ctx, s.db, func(ctx context.Context, tx *sql.Tx) error {
		p, err := scanReplay(tx.QueryRowContext(ctx, `
UPDATE replays SET worker = '', lease_until = now(), next_at = NULL,
    state = CASE WHEN $2 = 'running' AND NOT counted THEN 'counting' ELSE $2 END,
    ended_at = CASE WHEN $2 = 'cancelled' THEN now() END, stopped_at = CASE WHEN $4 THEN now() END
WHERE id = $1 AND state = ANY ($3) RETURNING `+replayColumns, id, string(to), pq.StringArray(states), stops))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return nil
		case err != nil:
			return err
		case to == replayRunning:
			return s.makeAgain(ctx, tx, p)
		case to == replayCancelled:
			if _, err := tx.ExecContext(ctx, `DELETE FROM recalled WHERE replay_id = $1`, id); err != nil {
				return err
			}
		}
		return s.recall(ctx, tx, id, to == replayPaused)
	})
	if err != nil {
		return fmt.Errorf("move replay %s to %s: %w", id, to, err)
	}
	if stops {
		return s.quiet(ctx, id)
	}
	return nil
}

// claim leases replays that nobody works on.
func (s *replayStore) claim(ctx context.Context, worker string, limit int) ([]uuid.UUID, error) {
	rows, err := s.db.QueryContext(ctx, `
UPDATE replays SET worker = $1, lease_until = now() + $2 * interval '1 millisecond' WHERE id IN (
    SELECT id FROM replays WHERE state IN ('counting', 'running') AND lease_until <= now()
    ORDER BY lease_until LIMIT $3 FOR UPDATE SKIP LOCKED)
RETURNING id`, worker, replayLease.Milliseconds(), limit)
	ids, err := postgres.Collect(rows, err, postgres.ScanOne[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("claim replays: %w", err)
	}
	return ids, nil
}

// renew keeps a lease and returns the replay as it is; errNotMine.
func (s *replayStore) renew(ctx context.Context, id uuid.UUID, worker string) (*replay, error) {
	p, err := scanReplay(s.db.QueryRowContext(ctx, `
UPDATE replays SET lease_until = now() + $3 * interval '1 millisecond'
WHERE id = $1 AND worker = $2 AND state IN ('counting', 'running') RETURNING `+replayColumns, id, worker, replayLease.Milliseconds()))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNotMine
	}
	if err != nil {
		return nil, fmt.Errorf("renew replay %s: %w", id, err)
	}
	return p, nil
}

// release gives up what a worker that stops has leased.
func (s *replayStore) release(ctx context.Context, worker string) error {
	if _, err := s.db.ExecContext(ctx, `UPDATE replays SET worker = '', lease_until = now() WHERE worker = $1 AND state IN ('counting', 'running')`, worker); err != nil {
		return fmt.Errorf("release replays: %w", err)
	}
	return nil
}

// settle bounds a replay that makes only missing deliveries: by a place in the stream, and the time of acceptance there.
func (s *replayStore) settle(ctx context.Context, p *replay, worker string, at *fanout.Settling) error {
	res, err := s.db.ExecContext(ctx, `
UPDATE replays SET last_seq = $3, until = greatest(until, $4) WHERE id = $1 AND worker = $2 AND state IN ('counting', 'running') AND last_seq IS NULL`,
		p.id, worker, int64(at.Events), at.Until)
	return onlyMine(res, err, "bound replay")
}

// tally is what a replay makes of a stretch, and what it cannot make.
type tally struct{ matched, unreachable int }

// count adds to what a replay will send. At the end of the span sending begins, from the beginning.
func (s *replayStore) count(ctx context.Context, p *replay, worker string, of stretch, n tally) error {
	res, err := s.db.ExecContext(ctx, `
UPDATE replays SET matched = matched + $3, unreachable = unreachable + $6,
    place = CASE WHEN $5 THEN '00000000-0000-0000-0000-000000000000' ELSE $4::uuid END, counted = $5,
    state = CASE WHEN NOT $5 THEN state WHEN `+unexpected+` THEN 'cancelled' WHEN dry_run THEN 'done' ELSE 'running' END,
    end_reason = CASE WHEN $5 AND `+unexpected+` THEN '`+unexpectedCount+`' END,
    ended_at = CASE WHEN $5 AND (dry_run OR `+unexpected+`) THEN now() END
WHERE id = $1 AND worker = $2 AND state = 'counting'`, p.id, worker, n.matched, of.place, of.last, n.unreachable)
	return onlyMine(res, err, "count replay")
}

// end ends a replay early.
func (s *replayStore) end(ctx context.Context, p *replay, worker string) error {
	res, err := s.db.ExecContext(ctx, `
UPDATE replays SET state = 'cancelled', ended_at = now() WHERE id = $1 AND worker = $2 AND state IN ('counting', 'running')`, p.id, worker)
	return onlyMine(res, err, "end replay")
}

func onlyMine(res sql.Result, err error, what string) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return errors.Join(errNotMine, err)
	}
	return nil
}

// send makes the deliveries of a stretch and moves the replay's place in one transaction. It returns after how long
// the next delivery may be due.
func (s *replayStore) send(ctx context.Context, p *replay, worker string, of stretch, with *ledger.Repeater) (time.Duration, error) {
	return s.advance(ctx, p, worker, of.reach, func(ctx context.Context, tx *sql.Tx, pace ledger.Pace) (int, error) {
		return with.Send(ctx, tx, p.only, of.list, pace)
	})
}

// over reports whether a replay or job has ended: it has nothing more to make, and a replay has sent all that it made, unless what is
// left waits for its endpoint.
const over = `$5 AND (kind <> 'replay' OR next_at < now() - $6 * interval '1 millisecond'
    OR NOT EXISTS (SELECT FROM deferrals d WHERE d.replay_id = replays.id AND ` + waiting + `))`

// advance has the next deliveries of a running replay made, at its pace, and moves its place, in one transaction; act makes them and
// returns how many they are. It returns after how long the next delivery may be due.
func (s *replayStore) advance(
	ctx context.Context, p *replay, worker string, to reach, act func(context.Context, *sql.Tx, ledger.Pace) (int, error),
) (wait time.Duration, err error) {
	pace := ledger.Pace{Every: time.Second / time.Duration(p.rate), Replay: p.id}
	err = postgres.Retry(ctx, s.db, func(ctx context.Context, tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `
SELECT greatest(now(), coalesce(next_at, now())) FROM replays WHERE id = $1 AND worker = $2 AND state = 'running' AND place = $3 FOR UPDATE`,
			p.id, worker, p.place).Scan(&pace.From)
		if errors.Is(err, sql.ErrNoRows) {
			return errNotMine
		}
		if err != nil {
			return err
		}
		n, err := act(ctx, tx, pace)
		if err != nil {
			return err
		}
		var ms float64
		err = tx.QueryRowContext(ctx, `
UPDATE replays SET sent = sent + $2, place = $3, next_at = CASE WHEN $2 > 0 THEN $4 ELSE next_at END,
    state = CASE WHEN `+over+` THEN 'done' ELSE state END, ended_at = CASE WHEN `+over+` THEN now() END
WHERE id = $1 RETURNING extract(epoch FROM greatest(coalesce(next_at, now()), now()) - clock_timestamp()) * 1000`,
			p.id, n, to.place, pace.From.Add(time.Duration(n)*pace.Every), to.last, replayLinger.Milliseconds()).Scan(&ms)
		wait = time.Duration(ms * float64(time.Millisecond))
		return err
	})
	if err != nil && !errors.Is(err, errNotMine) {
		err = fmt.Errorf("advance %s %s: %w", p.kind, p.id, err)
	}
	return wait, err
}

// past is an event of the ledger; gone, if its bytes are nowhere.
type past struct {
	fanout.Recorded
	gone bool
}

// events returns events of a tenant in the order of their keys. First is the first place of the stream.
func (s *replayStore) events(ctx context.Context, p *replay, limit int, first uint64) ([]past, error) {
	rows, err := s.db.QueryContext(ctx, `
SELECT `+fanout.RecordedColumns+`, seq < $10 AND NOT EXISTS (SELECT FROM event_data k WHERE k.uid = events.uid) FROM events
WHERE tenant = $1 AND uid > $2 AND uid >= $3 AND uid < $4 AND accepted_at >= $5 AND accepted_at < $6 AND erased_at IS NULL
    AND (cardinality($7::text[]) = 0 OR type = ANY ($7)) AND ($9::bigint IS NULL OR seq <= $9)
ORDER BY uid LIMIT $8`, p.tenant, p.place, event.FirstUID(p.span.Since), event.FirstUID(p.span.Until.Add(time.Millisecond)),
		p.span.Since, p.span.Until, pq.StringArray(append([]string{}, p.types...)), limit, p.lastSeq, int64(first))
	list, err := postgres.Collect(rows, err, func(rows *sql.Rows) (e past, err error) {
		e.Recorded, err = fanout.ScanRecorded(fanout.Wider{Row: rows, More: []any{&e.gone}})
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("list events to send again: %w", err)
	}
	return list, nil
}
