-- +goose Up

-- The event types of all tenants in the order of their list.
CREATE INDEX event_types_listed ON event_types (created_at, name, tenant) WHERE NOT deleted;
