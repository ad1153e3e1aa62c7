-- +goose Up

-- Ids grow, and what grows belongs at the right end of a page: a page that is split there stays nine tenths full, one that
-- is split at its left end half. Lists that show the newest first read these indexes backwards.
DROP INDEX deliveries_tenant;
CREATE INDEX deliveries_tenant ON deliveries (tenant, id);
DROP INDEX deliveries_subscription;
CREATE INDEX deliveries_subscription ON deliveries (subscription_id, id);
DROP INDEX events_tenant;
CREATE INDEX events_tenant ON events (tenant, uid);
