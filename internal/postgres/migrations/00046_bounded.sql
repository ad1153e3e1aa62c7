-- +goose Up

-- Statements of loops and routes that read whole tables without these.
CREATE INDEX tenants_erased ON tenants (erased_at) WHERE deleted_at IS NOT NULL; -- being erased, or erased lately
CREATE INDEX keys_listed ON keys (created_at, id) WHERE revoked_at IS NULL; -- of all tenants, in the order of the list
CREATE INDEX subscriptions_deleted ON subscriptions (updated_at) WHERE deleted; -- tombstones to be swept
CREATE INDEX event_types_deleted ON event_types (updated_at) WHERE deleted;
