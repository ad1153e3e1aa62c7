-- +goose Up

-- A tenant's own limits; null where the defaults hold. Processes read what was changed lately.
ALTER TABLE tenants ADD COLUMN limits jsonb, ADD COLUMN limits_at timestamptz;
CREATE INDEX tenants_limits_at ON tenants (limits_at) WHERE limits_at IS NOT NULL;

-- About what a subscription takes in the memory of each process.
ALTER TABLE subscriptions ADD COLUMN bytes bigint NOT NULL DEFAULT 0;
UPDATE subscriptions SET bytes = 512 + octet_length(name) + octet_length(url) + octet_length(filter) + octet_length(secrets)
    + octet_length(description) + octet_length(resource_id) + octet_length(headers::text) + octet_length(metadata::text)
    + octet_length(settings::text) + octet_length(array_to_string(event_types, ' ')) + octet_length(array_to_string(changed, ' '))
    + octet_length(array_to_string(scopes, ' '))
WHERE NOT deleted;
-- Counted with each new subscription, from the index alone.
CREATE INDEX subscriptions_bytes ON subscriptions (tenant, deleted) INCLUDE (bytes);

CREATE INDEX replays_open_tenant ON replays (tenant) WHERE state IN ('counting', 'running', 'paused');

-- What each process took of tenants' events per second lately. A crash of Postgres may lose it.
CREATE UNLOGGED TABLE event_rates (
    tenant     text NOT NULL,
    process    uuid NOT NULL,
    per_second double precision NOT NULL,
    at         timestamptz NOT NULL,
    PRIMARY KEY (tenant, process)
) WITH (fillfactor = 50);
