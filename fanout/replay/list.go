package replay

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

type replaysInput struct {
	api.ListInput
	Subscription string      `query:"subscription" format:"uuid" doc:"The subscription's id" example:"0198c0de-7a3c-7000-8000-5f1e2d3c4b5a"`
	State        replayState `query:"state" enum:"counting,running,paused,done,cancelled" doc:"Those in this state" example:"running"`
}

type replaysOutput struct{ Body api.List[replayJSON] }

func (r Routes) list(ctx context.Context, in *replaysInput) (*replaysOutput, error) {
	f := listed{state: in.State}
	if in.Subscription != "" {
		id, err := uuid.Parse(in.Subscription)
		if err != nil {
			return nil, api.Invalid(api.At("query.subscription", "must be a UUID"))
		}
		f.subscription = uuid.NullUUID{UUID: id, Valid: true}
	}
	body, err := listOf(ctx, r, in.ListInput, f, func(p *replay) replayJSON { return p.output().Body })
	return &replaysOutput{Body: body}, err
}

// listOf returns a page of replays, each as show shows it.
func listOf[T any](ctx context.Context, r Routes, in api.ListInput, f listed, show func(*replay) T) (body api.List[T], err error) {
	if f.tenant, err = api.TenantOrAny(ctx, ""); err != nil {
		return body, err
	}
	page, err := in.Page(ctx)
	if err != nil {
		return body, err
	}
	f.asc, f.limit = page.Asc, page.Fetch()
	if f.after, err = page.AfterID(); err != nil {
		return body, err
	}
	found, cut, err := newReplayStore(r.DB).list(ctx, f)
	if err != nil {
		return body, err
	}
	page.CutAt(cut)
	list, err := api.ListOf(ctx, page, found, func(p *replay) string { return p.id.String() })
	body = api.List[T]{Data: make([]T, len(list.Data)), NextCursor: list.NextCursor}
	for i, p := range list.Data {
		body.Data[i] = show(p)
	}
	return body, err
}

// listed says which replays a list shows; zero fields filter nothing.
type listed struct {
	tenant       string
	jobs         bool // instead of replays
	subscription uuid.NullUUID
	state        replayState
	after        uuid.UUID
	asc          bool
	limit        int
}

// listExamined is how many replays a page looks at.
const listExamined = 5000

// list returns replays in the order of their ids, and where it stopped if it did so before the end.
func (s *replayStore) list(ctx context.Context, f listed) (list []*replay, cut uuid.UUID, err error) {
	order, beyond := postgres.Direction(f.asc)
	after := f.after
	if after == uuid.Nil && !f.asc {
		after = uuid.Max
	}
	rows, err := s.db.QueryContext(ctx, fmt.Sprintf(`
SELECT %[1]s, asked, nth FROM (
    SELECT *, row_number() OVER (ORDER BY id %[2]s) AS nth,
        ($3::uuid IS NULL OR subscription_id = $3) AND ($4 = '' OR state = $4) AND (kind <> 'replay') = $7 AS asked
    FROM replays WHERE ($1 = '' OR tenant = $1) AND id %[3]s $2 ORDER BY id %[2]s LIMIT $5
) r WHERE asked OR nth = $5 ORDER BY nth LIMIT $6`, replayColumns, order, beyond), f.tenant, after, f.subscription, string(f.state), listExamined, f.limit, f.jobs)
	err = postgres.Each(rows, err, func() error {
		var asked bool
		var nth int
		p, err := scanReplay(wider{rows, []any{&asked, &nth}})
		if err != nil {
			return err
		}
		if asked {
			list = append(list, p)
		}
		if nth == listExamined {
			cut = p.id
		}
		return nil
	})
	if err == nil {
		err = s.unsent(ctx, list...)
	}
	if err != nil {
		return nil, uuid.Nil, fmt.Errorf("list replays: %w", err)
	}
	return list, cut, nil
}

// wider scans a row that has more columns at its end.
type wider struct {
	row  interface{ Scan(...any) error }
	more []any
}

func (w wider) Scan(dest ...any) error { return w.row.Scan(append(dest, w.more...)...) }
