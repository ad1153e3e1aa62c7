-- +goose Up

-- The size of the definitions of a change: pages and the history of a tenant are bounded by it.
ALTER TABLE changes ADD COLUMN bytes integer NOT NULL
    GENERATED ALWAYS AS (coalesce(octet_length(definition::text), 0) + coalesce(octet_length(former::text), 0)) STORED;
CREATE INDEX changes_share ON changes (tenant, id) INCLUDE (bytes);
DROP INDEX changes_tenant;

-- The subscriptions that were disabled last, of a tenant and of all.
CREATE INDEX changes_disabled_of ON changes (tenant, id) WHERE resource = 'subscription' AND action = 'disable';
CREATE INDEX changes_disabled ON changes (id) WHERE resource = 'subscription' AND action = 'disable';

-- User names and client ids are parts of credentials: the history no longer holds them.
UPDATE changes SET definition = jsonb_set(definition, '{auth,username}', '"***"', false) WHERE resource = 'subscription' AND definition #> '{auth,username}' IS NOT NULL;
UPDATE changes SET definition = jsonb_set(definition, '{auth,client_id}', '"***"', false) WHERE resource = 'subscription' AND definition #> '{auth,client_id}' IS NOT NULL;
UPDATE changes SET former = jsonb_set(former, '{auth,username}', '"***"', false) WHERE resource = 'subscription' AND former #> '{auth,username}' IS NOT NULL;
UPDATE changes SET former = jsonb_set(former, '{auth,client_id}', '"***"', false) WHERE resource = 'subscription' AND former #> '{auth,client_id}' IS NOT NULL;
