-- +goose Up

-- The later generation that was made of a dead letter, which counts instead of it; null while there is none, or once that one was
-- cancelled.
ALTER TABLE deliveries ADD COLUMN superseded_by uuid;

UPDATE deliveries d SET superseded_by = g.id FROM (
    SELECT event_uid, subscription_id, generation, id FROM deliveries WHERE generation > 0 AND state <> 'cancelled'
) g
WHERE d.state = 'dead' AND d.event_uid = g.event_uid AND d.subscription_id = g.subscription_id AND d.generation < g.generation;

UPDATE deliveries d SET superseded_by = p.id FROM deferrals p
WHERE p.generation > 0 AND d.state = 'dead' AND d.superseded_by IS NULL
    AND d.event_uid = p.event_uid AND d.subscription_id = p.subscription_id AND d.generation < p.generation;

-- What a generation that is cancelled stood for.
CREATE INDEX deliveries_superseded ON deliveries (superseded_by) WHERE superseded_by IS NOT NULL;

-- Dead letters that are open, of all tenants.
DROP INDEX deliveries_open;
CREATE INDEX deliveries_open ON deliveries (id) WHERE state = 'dead' AND resolved_at IS NULL AND superseded_by IS NULL;

-- The dead letter that a recalled delivery was made of, if it was open.
ALTER TABLE recalled ADD COLUMN supersedes uuid;
