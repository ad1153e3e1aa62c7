-- +goose Up

-- The history of subscriptions, event types, keys and tenants: a row for each change, written in the same transaction.
CREATE TABLE changes (
    id          uuid PRIMARY KEY, -- UUIDv7: the list's order and its clock
    at          timestamptz NOT NULL,
    tenant      text NOT NULL,    -- '' for event types of all tenants and for admin keys
    resource    text NOT NULL,    -- subscription, event_type, key, tenant
    resource_id text NOT NULL,
    revision    bigint NOT NULL,  -- grows with each change of one resource
    action      text NOT NULL,
    actor_kind  text NOT NULL,
    actor_id    text NOT NULL,
    actor_name  text NOT NULL,
    changed     text[] NOT NULL,  -- the fields that changed
    definition  jsonb,            -- the whole definition after the change, without secrets; null after a deletion
    former      jsonb             -- the definition before the first change of a resource that is older than this table
);
CREATE INDEX changes_resource ON changes (resource, resource_id, tenant, revision);
CREATE INDEX changes_tenant ON changes (tenant, id);
CREATE INDEX changes_actor ON changes (actor_id, id);
CREATE INDEX changes_kind ON changes (resource, id);

-- The revision of the subscription that an attempt was sent by; null where there was none.
ALTER TABLE deliveries ADD COLUMN subscription_revision bigint;
ALTER TABLE deferrals ADD COLUMN subscription_revision bigint;
ALTER TABLE attempts ADD COLUMN subscription_revision bigint;

-- The revision of the subscriptions that an event was matched against; null for events of earlier versions.
ALTER TABLE events ADD COLUMN revision bigint;
