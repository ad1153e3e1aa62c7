package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// countKey is what outcomes are counted by.
type countKey struct {
	minute       int64 // Unix minutes
	tenant       string
	subscription uuid.UUID
	eventType    string
	reason       outcome.Reason
	class, ended int
	bucket       int
}

// The values of the column ended.
const (
	notEnded = iota
	EndedDelivered
	EndedDead
	EndedCancelled
)

// noBucket is the bucket without an attempt.
const noBucket = -1

// bucketsPerOctave is how finely durations are counted: a percentile is right to within 10 %.
const bucketsPerOctave = 4

// BucketOf is the bucket of a duration in microseconds.
func BucketOf(micros int64) int {
	return int(math.Round(bucketsPerOctave * math.Log2(float64(max(micros, 1)))))
}

// BucketMS is the duration, in milliseconds, that a bucket stands for.
func BucketMS(bucket int) float64 { return math.Exp2(float64(bucket)/bucketsPerOctave) / 1000 }

// keyOf returns how an outcome is counted; false if it is neither an attempt nor an end.
func keyOf(r *outcome.Record) (countKey, bool) {
	k := countKey{tenant: r.Tenant, subscription: r.Subscription, eventType: r.EventType, reason: r.Reason, bucket: noBucket}
	at := r.At
	switch r.Outcome {
	case outcome.Delivered:
		k.ended = EndedDelivered
	case outcome.Dead:
		k.ended = EndedDead
	case outcome.Cancelled:
		k.ended = EndedCancelled
	}
	if a := r.Attempt; a != nil {
		k.class, k.bucket = a.Status/100, BucketOf(a.Micros)
		at = a.StartedAt.Add(time.Duration(a.Micros) * time.Microsecond)
	} else if k.ended == notEnded {
		return k, false
	}
	k.minute = at.Unix() / 60
	return k, true
}

const writePacket = `
INSERT INTO count_packets (at, tenant, subscription_id, event_type, reason, class, ended, bucket, n)
VALUES ($1::timestamptz[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::smallint[], $7::smallint[], $8::smallint[], $9::bigint[])`

// count writes what the records of a transaction come to, as one row: a row for each series would cost as much as the deliveries
// themselves, and recorders would wait for each other's rows.
func (l *Ledger) count(ctx context.Context, tx *sql.Tx, lists ...[]*outcome.Record) error {
	sums := map[countKey]int64{}
	for _, records := range lists {
		for _, r := range records {
			if k, ok := keyOf(r); ok {
				sums[k]++
			}
		}
	}
	if len(sums) == 0 {
		return nil
	}
	c := postgres.Columns(9, len(sums))
	for k, n := range sums {
		c[0].Time(time.Unix(k.minute*60, 0))
		c[1].Text(k.tenant)
		c[2].UUID(k.subscription)
		c[3].Text(k.eventType)
		c[4].Text(string(k.reason))
		c[5].Int16(k.class)
		c[6].Int16(k.ended)
		c[7].Int16(k.bucket)
		c[8].Int64(n)
	}
	if _, err := l.exec(ctx, tx, writePacket, postgres.Args(c)...); err != nil {
		return fmt.Errorf("count outcomes: %w", err)
	}
	return nil
}

// countCancelled counts the deliveries of gone, which are cancelled for a reason: an expression of SQL.
func countCancelled(reason string) string {
	return `counted AS (
    INSERT INTO count_packets (at, tenant, subscription_id, event_type, reason, class, ended, bucket, n)
    SELECT array_agg(date_trunc('minute', now(), 'UTC')), array_agg(tenant), array_agg(subscription_id), array_agg(event_type),
        array_agg((` + reason + `)::text), array_agg(0::smallint), array_agg(` + fmt.Sprintf("%d::smallint), array_agg((%d)::smallint", EndedCancelled, noBucket) + `), array_agg(n)
    FROM (SELECT tenant, subscription_id, event_type, count(*) AS n FROM gone GROUP BY 1, 2, 3) g HAVING count(*) > 0
)`
}
