package api

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/url"
	"slices"

	"github.com/google/uuid"
)

// ListInput is embedded in the inputs of lists.
type ListInput struct {
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"500" doc:"How many items to return at most."`
	Cursor string `query:"cursor" maxLength:"1024" doc:"Where to go on: next_cursor of the page before."`
	Order  string `query:"order" enum:"asc,desc" default:"desc" doc:"Newest first (desc) or oldest first (asc)."`
}

// List is the answer of every list.
type List[T any] struct {
	Data       []T     `json:"data" nullable:"false"`
	NextCursor *string `json:"next_cursor" doc:"Where the next page begins; null on the last one, whatever the number of items."`
}

// Page is the part of a list that a request asks for.
type Page struct {
	// After is the position of the last item before the page, as ListOf was given it; empty at the start.
	After string
	// Cut is the position up to which the items were looked for, where that stopped before the list's end; else empty.
	Cut   string
	Limit int
	Asc   bool
}

// Page reads the cursor. A cursor works only with the path, the caller's tenant, the order and the filters that it was
// given for: anything else is a 422.
func (in *ListInput) Page(ctx context.Context) (Page, error) {
	p := Page{Limit: in.Limit, Asc: in.Order == "asc"}
	if in.Cursor == "" {
		return p, nil
	}
	mac, err := cursorMAC(ctx, p.Asc)
	if err != nil {
		return Page{}, err
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(in.Cursor)
	if err != nil || len(raw) <= macSize || !hmac.Equal(raw[:macSize], mac(raw[macSize:])) {
		return Page{}, Invalid(At("query.cursor", "is not a cursor of this list"))
	}
	p.After = string(raw[macSize:])
	return p, nil
}

// Fetch is how many items to read: one more than the page has, which shows whether there is a next one.
func (p Page) Fetch() int { return p.Limit + 1 }

// AfterID is After of a list whose positions are ids; uuid.Nil at the start.
func (p Page) AfterID() (uuid.UUID, error) {
	if p.After == "" {
		return uuid.Nil, nil
	}
	id, err := uuid.Parse(p.After)
	if err != nil {
		return uuid.Nil, Invalid(At("query.cursor", "is not a cursor of this list"))
	}
	return id, nil
}

// CutAt sets Cut of a list whose positions are ids; uuid.Nil is none.
func (p *Page) CutAt(id uuid.UUID) {
	p.Cut = ""
	if id != uuid.Nil {
		p.Cut = id.String()
	}
}

// ListOf makes the answer of at most p.Fetch() items that were read after p.After; key gives an item's position. A page
// that was cut may be short, even empty, and the list goes on after p.Cut.
func ListOf[T any](ctx context.Context, p Page, items []T, key func(T) string) (List[T], error) {
	out := List[T]{Data: slices.Clip(items)}
	if out.Data == nil {
		out.Data = []T{}
	}
	position := []byte(p.Cut)
	if len(items) > p.Limit {
		out.Data = items[:p.Limit:p.Limit]
		position = []byte(key(items[p.Limit-1]))
	}
	if len(position) == 0 {
		return out, nil
	}
	mac, err := cursorMAC(ctx, p.Asc)
	if err != nil {
		return List[T]{}, err
	}
	cursor := base64.RawURLEncoding.EncodeToString(append(mac(position), position...))
	out.NextCursor = &cursor
	return out, nil
}

// macSize is how many bytes of HMAC-SHA256 a cursor carries.
const macSize = 16

// cursorMAC signs positions for what the request asks for. The query is part of it, so that a route can add
// a filter and cannot forget to bind it.
func cursorMAC(ctx context.Context, asc bool) (func(position []byte) []byte, error) {
	r := requestFrom(ctx)
	if r == nil || r.adapter == nil {
		return nil, errors.New("a list outside of a request has no cursors")
	}
	query := url.Values{}
	for name, values := range r.query {
		if name != "cursor" && name != "limit" && name != "order" {
			query[name] = values
		}
	}
	whose := "tenant"
	switch {
	case r.caller.Admin:
		whose = Admin
	case r.caller.AllTenants:
		whose = "operator"
	}
	order := "desc"
	if asc {
		order = "asc"
	}
	return func(position []byte) []byte {
		h := hmac.New(sha256.New, r.cfg.CursorKey)
		for _, part := range []string{r.method, r.uri, whose, r.caller.Tenant, query.Encode(), order, string(position)} {
			var size [8]byte
			binary.BigEndian.PutUint64(size[:], uint64(len(part)))
			h.Write(size[:])
			h.Write([]byte(part))
		}
		return h.Sum(nil)[:macSize]
	}, nil
}
