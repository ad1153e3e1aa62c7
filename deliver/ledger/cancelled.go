package ledger

// cancelled is the head of a statement that ends the deferrals which the condition holds for: it removes them (the table gone has
// them then), reopens the dead letters that they were made of, and counts them under the reason, which is an expression.
func cancelled(condition, reason string) string {
	return `
WITH gone AS (
    DELETE FROM deferrals WHERE ` + condition + `
    RETURNING ` + DeliveryNames + `, number, attempts, created_at, status, subscription_revision
), reopened AS (
` + reopen("ARRAY(SELECT id FROM gone WHERE generation > 0)") + `
), ` + countCancelled(reason)
}

// endCancelled writes the deliveries that cancelled removed as ended.
func endCancelled(reason string) string {
	return `
INSERT INTO deliveries (` + DeliveryNames + `, number, state, reason,
    attempts, created_at, ended_at, duration_us, status, error, subscription_revision)
SELECT ` + DeliveryNames + `, number, 'cancelled', ` + reason + `,
    attempts, created_at, now(), 0, status, '', subscription_revision FROM gone
ON CONFLICT DO NOTHING`
}
