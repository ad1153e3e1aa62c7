package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/internal/api"
)

type numbersIn struct {
	api.ListInput
	Kind string `query:"kind"`
}

// numbers lists 0..99 per path, with filters that change nothing.
func numbers(a huma.API) {
	list := func(ctx context.Context, in *numbersIn) (*struct{ Body api.List[int] }, error) {
		page, err := in.Page(ctx)
		if err != nil {
			return nil, err
		}
		n, step := 99, -1
		if page.Asc {
			n, step = 0, 1
		}
		if page.After != "" {
			if _, err := fmt.Sscan(page.After, &n); err != nil {
				return nil, err
			}
			n += step
		}
		var items []int
		for ; n >= 0 && n < 100 && len(items) < page.Fetch(); n += step {
			items = append(items, n)
		}
		body, err := api.ListOf(ctx, page, items, func(i int) string { return fmt.Sprint(i) })
		return &struct{ Body api.List[int] }{body}, err
	}
	huma.Register(a, op("GET", "/v1/numbers", api.Scope("things:read")), list)
	huma.Register(a, op("GET", "/v1/digits", api.Scope("things:read")), list)
}

func (h *harness) list(t *testing.T, key, path string) (items []int, next string) {
	t.Helper()
	a := h.call(t, key, "GET "+path, "")
	var body api.List[int]
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || a.status != 200 {
		t.Fatalf("%s: %d %s", path, a.status, a.body)
	}
	if body.NextCursor != nil {
		next = *body.NextCursor
	}
	return body.Data, next
}

func TestListGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	h := serve(t, numbers)
	for order, first := range map[string]int{"desc": 99, "asc": 0} {
		for _, limit := range []int{1, 7, 50, 100, 500} {
			var all []int
			cursor := ""
			for {
				items, next := h.list(t, "acme", fmt.Sprintf("/v1/numbers?order=%s&limit=%d&cursor=%s", order, limit, cursor))
				all = append(all, items...)
				if next == "" {
					break
				}
				if len(items) != limit {
					t.Fatalf("%s %d: a page of %d", order, limit, len(items))
				}
				cursor = next
			}
			seen := map[int]bool{}
			for _, n := range all {
				seen[n] = true
			}
			if len(all) != 100 || len(seen) != 100 || all[0] != first {
				t.Errorf("%s %d: got %v", order, limit, all)
			}
		}
	}
	if items, _ := h.list(t, "acme", "/v1/numbers"); len(items) != 50 {
		t.Errorf("default limit: %d items", len(items))
	}
}

// A page that was cut goes on where it stopped, however many items it has.
func TestCutListGoesOnAfterTheCut(t *testing.T) {
	t.Parallel()
	h := serve(t, func(a huma.API) {
		// Of 1 to 10 each page examines three numbers, of which it lists those that are divisible by 4.
		huma.Register(a, op("GET", "/v1/fours", api.Public()), func(ctx context.Context, in *numbersIn) (*struct{ Body api.List[int] }, error) {
			page, err := in.Page(ctx)
			if err != nil {
				return nil, err
			}
			n := 0
			if page.After != "" {
				if _, err := fmt.Sscan(page.After, &n); err != nil {
					return nil, err
				}
			}
			var items []int
			for last := min(n+3, 10); n < last; {
				if n++; n%4 == 0 {
					items = append(items, n)
				}
			}
			if n < 10 {
				page.Cut = fmt.Sprint(n)
			}
			body, err := api.ListOf(ctx, page, items, func(i int) string { return fmt.Sprint(i) })
			return &struct{ Body api.List[int] }{body}, err
		})
	})
	var pages [][]int
	for cursor := ""; ; {
		items, next := h.list(t, "", "/v1/fours?cursor="+cursor)
		pages = append(pages, items)
		if cursor = next; cursor == "" {
			break
		}
	}
	if got := fmt.Sprint(pages); got != "[[] [4] [8] []]" {
		t.Errorf("the pages are %s", got)
	}
}

func TestCursorIsBoundToItsList(t *testing.T) {
	t.Parallel()
	h := serve(t, numbers)
	_, cursor := h.list(t, "acme", "/v1/numbers?kind=a&limit=10")
	for _, tc := range []struct {
		name, key, query string
		status           int
	}{
		{"same", "acme", "/v1/numbers?kind=a&limit=10&cursor=", 200},
		{"another limit", "acme", "/v1/numbers?kind=a&limit=20&cursor=", 200},
		{"order spelt out", "acme", "/v1/numbers?kind=a&order=desc&cursor=", 200},
		{"another key of the tenant", "reader", "/v1/numbers?kind=a&cursor=", 200},
		{"another tenant", "other", "/v1/numbers?kind=a&cursor=", 422},
		{"admin", "admin", "/v1/numbers?kind=a&cursor=", 422},
		{"operator", "operator", "/v1/numbers?kind=a&cursor=", 422},
		{"another filter", "acme", "/v1/numbers?kind=b&cursor=", 422},
		{"no filter", "acme", "/v1/numbers?cursor=", 422},
		{"another order", "acme", "/v1/numbers?kind=a&order=asc&cursor=", 422},
		{"another list", "acme", "/v1/digits?kind=a&cursor=", 422},
	} {
		a := h.call(t, tc.key, "GET "+tc.query+cursor, "")
		if a.status != tc.status || (tc.status == 422 && a.locations() != "query.cursor") {
			t.Errorf("%s: want %d, got %d %s", tc.name, tc.status, a.status, a.body)
		}
	}
	for i := range cursor {
		for _, c := range []byte{'A', 'b', '-'} {
			forged := cursor[:i] + string(c) + cursor[i+1:]
			if forged == cursor {
				continue
			}
			if a := h.call(t, "acme", "GET /v1/numbers?kind=a&cursor="+forged, ""); a.status != 422 {
				t.Fatalf("forged at %d: %d %s", i, a.status, a.body)
			}
		}
	}
	for _, bad := range []string{"x", "AAAA", "%20", strings.Repeat("A", 1000), strings.Repeat("A", 2000), "' OR 1=1 --"} {
		if a := h.call(t, "acme", "GET /v1/numbers?kind=a&cursor="+url.QueryEscape(bad), ""); a.status != 422 {
			t.Errorf("%.20q: %d %s", bad, a.status, a.body)
		}
	}
}

func TestLimitsOfLists(t *testing.T) {
	t.Parallel()
	h := serve(t, numbers)
	for query, want := range map[string]string{
		"limit=1": "", "limit=500": "", "order=asc": "",
		"limit=0": "query.limit", "limit=-1": "query.limit", "limit=501": "query.limit", "limit=x": "query.limit",
		"limit=99999999999999999999": "query.limit", "limit=5&limit=6": "query.limit", "limit=1e2": "query.limit", "order=up": "query.order", "offset=1": "query.offset",
	} {
		a := h.call(t, "acme", "GET /v1/numbers?"+query, "")
		if (a.status == 200) != (want == "") || a.locations() != want {
			t.Errorf("%s: want %q, got %d %q %s", query, want, a.status, a.locations(), a.body)
		}
	}
}

func TestEmptyListIsNoNull(t *testing.T) {
	t.Parallel()
	h := serve(t, func(a huma.API) {
		huma.Register(a, op("GET", "/v1/none", api.Public()), func(ctx context.Context, in *numbersIn) (*struct{ Body api.List[int] }, error) {
			page, err := in.Page(ctx)
			if err != nil {
				return nil, err
			}
			body, err := api.ListOf(ctx, page, []int(nil), func(int) string { return "" })
			return &struct{ Body api.List[int] }{body}, err
		})
	})
	if a := h.call(t, "", "GET /v1/none", ""); strings.TrimSpace(a.body) != `{"data":[],"next_cursor":null}` {
		t.Errorf("got %s", a.body)
	}
}
