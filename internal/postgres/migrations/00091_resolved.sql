-- +goose Up

-- When a dead letter's event was delivered after all, by a retry or a replay; null while it is open.
ALTER TABLE deliveries ADD COLUMN resolved_at timestamptz;

UPDATE deliveries d SET resolved_at = g.ended_at FROM (
    SELECT event_uid, subscription_id, max(generation) AS generation, min(ended_at) AS ended_at FROM deliveries
    WHERE generation > 0 AND state = 'delivered' GROUP BY event_uid, subscription_id
) g
WHERE d.state = 'dead' AND d.event_uid = g.event_uid AND d.subscription_id = g.subscription_id AND d.generation < g.generation;

-- Dead letters that are open, of all tenants.
CREATE INDEX deliveries_open ON deliveries (id) WHERE state = 'dead' AND resolved_at IS NULL;

UPDATE quarantine SET reason = 'schema' WHERE reason = 'schema_violation';
