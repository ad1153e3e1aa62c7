-- +goose Up

-- When the tenant was told that a subscription fails; null until then, and again once its URL changes.
ALTER TABLE failing ADD COLUMN told_at timestamptz;

-- Tenants in the order of their list.
CREATE INDEX tenants_listed ON tenants (created_at, tenant);
