package ledger

import (
	"fmt"
	"strings"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// columns are those of the rows that a statement is given, each as an array in a parameter of its own: "id uuid, tenant text".
type columns string

const (
	// deliveryColumns are what the rows of both tables begin with; see deliveryRow.
	deliveryColumns columns = "id uuid, tenant text, event_uid uuid, event_id text, event_type text, seq bigint, subscription_id uuid, generation int"
	// endedColumns are those of a delivery that ended; see endColumns.
	endedColumns = deliveryColumns + ", state text, reason text, attempts int, created_at timestamptz, ended_at timestamptz, " +
		"started_at timestamptz, duration_us bigint, status smallint, error text, response bytea, subscription_revision bigint, " +
		"exchange bytea, response_headers bytea"
)

var (
	// DeliveryNames are the names of deliveryColumns.
	DeliveryNames = deliveryColumns.names()
	// intoDeferrals begins a statement that inserts deferrals, with the columns that each sets. The caller names its own and closes
	// the parenthesis.
	intoDeferrals = "INSERT INTO deferrals (" + DeliveryNames + ", reason, attempts, step, test, held, created_at, due_at, claim_at"
	// IntoOrder begins one that inserts deferrals of ordered subscriptions.
	IntoOrder = intoDeferrals + ", order_key, waits"
)

func (c columns) names() string {
	return c.join(func(_ int, name, _ string) string { return name })
}

// unnested is a select list.
func (c columns) unnested() string {
	return c.join(func(n int, _, kind string) string { return fmt.Sprintf("unnest($%d::%s[])", n, kind) })
}

// rows is a table o.
func (c columns) rows() string {
	arrays := c.join(func(n int, _, kind string) string { return fmt.Sprintf("$%d::%s[]", n, kind) })
	return "unnest(" + arrays + ") AS o (" + c.names() + ")"
}

func (c columns) join(each func(n int, name, kind string) string) string {
	list := strings.Split(string(c), ", ")
	for i, column := range list {
		name, kind, _ := strings.Cut(column, " ")
		list[i] = each(i+1, name, kind)
	}
	return strings.Join(list, ", ")
}

// deliveryRow adds a delivery to deliveryColumns, which are the first of c.
func deliveryRow(c []postgres.Column, d *Deferral) {
	c[0].UUID(d.Delivery)
	c[1].Text(d.Tenant)
	c[2].UUID(d.EventUID)
	c[3].Text(d.EventID)
	c[4].Text(d.EventType)
	c[5].Int64(int64(d.Seq))
	c[6].UUID(d.Subscription)
	c[7].Int32(d.Generation)
}

// recordRow is deliveryRow of a record.
func recordRow(c []postgres.Column, r *outcome.Record) {
	deliveryRow(c, &Deferral{
		Delivery: r.Delivery, Tenant: r.Tenant, EventUID: r.EventUID, EventID: r.EventID, EventType: r.EventType,
		Seq: r.Seq, Subscription: r.Subscription, Generation: r.Generation,
	})
}
