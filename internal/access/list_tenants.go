package access

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/lib/pq"
)

type tenantsInput struct {
	api.ListInput
	Tenant string `query:"tenant" maxLength:"64" doc:"This tenant alone." example:"acme"`

	Q string `query:"q" maxLength:"200" doc:"Tenants with this text in their tenant or name, in upper or lower case." example:"acme"`
}

// listedTenant is a tenant as the list shows it.
type listedTenant struct {
	Tenant        string             `json:"tenant" example:"acme"`
	Name          string             `json:"name" example:"Acme Inc."`
	Metadata      map[string]string  `json:"metadata" nullable:"false"`
	CreatedAt     time.Time          `json:"created_at"`
	Subscriptions subscriptionCounts `json:"subscriptions"`
}

type subscriptionCounts struct {
	Active   int64 `json:"active" doc:"Failing ones included; at most 10,000 subscriptions of a tenant are counted."`
	Paused   int64 `json:"paused"`
	Disabled int64 `json:"disabled"`
	Failing  int64 `json:"failing" doc:"Those whose tenant was told that they fail."`
}

type tenantsOutput struct{ Body api.List[listedTenant] }

func (a *Access) listTenants(ctx context.Context, in *tenantsInput) (*tenantsOutput, error) {
	page, err := in.Page(ctx)
	if err != nil {
		return nil, err
	}
	only, err := api.TenantOrAny(ctx, in.Tenant)
	if err != nil {
		return nil, err
	}
	list, cut, err := a.store.listTenants(ctx, page, tenantFilter{q: in.Q, tenant: only})
	if err != nil {
		return nil, err
	}
	page.Cut = cut
	body, err := api.ListOf(ctx, page, list, tenantPosition)
	if err != nil {
		return nil, err
	}
	if err := a.store.countSubscriptions(ctx, body.Data); err != nil {
		return nil, err
	}
	return &tenantsOutput{Body: body}, nil
}

// tenantPosition is a tenant's place in the list: by time, and by name within a microsecond.
func tenantPosition(t listedTenant) string {
	return strconv.FormatInt(t.CreatedAt.UnixMicro(), 10) + " " + t.Tenant
}

// tenantsExamined is how many tenants a page looks at for those with a text.
const tenantsExamined = 5000

// tenantFilter says which tenants a list shows; empty fields filter nothing.
type tenantFilter struct{ q, tenant string }

// listTenants returns the tenants after a place, and where it stopped if it did so before the end.
func (s *store) listTenants(ctx context.Context, page api.Page, f tenantFilter) (list []listedTenant, cut string, err error) {
	order, beyond, from, name := "DESC", "<", time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), ""
	if page.Asc {
		order, beyond, from = "ASC", ">", time.Unix(0, 0)
	}
	if at, tenant, ok := strings.Cut(page.After, " "); ok {
		micros, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			return nil, "", api.Invalid(api.At("query.cursor", "is not a cursor of this list"))
		}
		from, name = time.UnixMicro(micros), tenant
	}
	rows, err := s.db.QueryContext(ctx, fmt.Sprintf(`
SELECT tenant, name, metadata, created_at, asked, nth FROM (
    SELECT *, row_number() OVER (ORDER BY created_at %[1]s, tenant %[1]s) AS nth,
        ($3 = '' OR strpos(lower(tenant), lower($3)) > 0 OR strpos(lower(name), lower($3)) > 0) AND ($4 = '' OR tenant = $4) AS asked
    FROM tenants WHERE deleted_at IS NULL AND (created_at, tenant) %[2]s ($1, $2) ORDER BY created_at %[1]s, tenant %[1]s LIMIT $5
) t WHERE asked OR nth = $5 ORDER BY nth LIMIT $6`, order, beyond), from, name, f.q, f.tenant, tenantsExamined, page.Fetch())
	err = postgres.Each(rows, err, func() error {
		var t listedTenant
		var metadata []byte
		var asked bool
		var nth int
		if err := rows.Scan(&t.Tenant, &t.Name, &metadata, &t.CreatedAt, &asked, &nth); err != nil {
			return err
		}
		if err := json.Unmarshal(metadata, &t.Metadata); err != nil {
			return err
		}
		t.CreatedAt = t.CreatedAt.UTC()
		if asked {
			list = append(list, t)
		}
		if nth == tenantsExamined {
			cut = tenantPosition(t)
		}
		return nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("list tenants: %w", err)
	}
	return list, cut, nil
}

// countedMost is how many subscriptions of a tenant are counted.
const countedMost = 10_000

// countSubscriptions counts the subscriptions of tenants.
func (s *store) countSubscriptions(ctx context.Context, list []listedTenant) error {
	names := make(pq.StringArray, len(list))
	at := make(map[string]*listedTenant, len(list))
	for i := range list {
		names[i], at[list[i].Tenant] = list[i].Tenant, &list[i]
	}
	rows, err := s.db.QueryContext(ctx, `
SELECT t.tenant, c.status, count(*), count(*) FILTER (WHERE EXISTS (
    SELECT FROM failing f WHERE f.subscription_id = c.id AND f.told_at IS NOT NULL))
FROM unnest($1::text[]) AS t (tenant) CROSS JOIN LATERAL (
    SELECT id, status FROM subscriptions s WHERE s.tenant = t.tenant AND NOT s.deleted ORDER BY s.id DESC LIMIT $2
) c GROUP BY 1, 2`, names, countedMost)
	err = postgres.Each(rows, err, func() error {
		var tenant, status string
		var n, failing int64
		if err := rows.Scan(&tenant, &status, &n, &failing); err != nil {
			return err
		}
		c := &at[tenant].Subscriptions
		switch status {
		case "active":
			c.Active, c.Failing = n, failing
		case "paused":
			c.Paused = n
		case "disabled":
			c.Disabled = n
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("count subscriptions of tenants: %w", err)
	}
	return nil
}
