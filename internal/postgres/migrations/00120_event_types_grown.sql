-- +goose Up

ALTER TABLE event_types
    ADD COLUMN deprecated boolean NOT NULL DEFAULT false,
    ADD COLUMN replaced_by text NOT NULL DEFAULT '',       -- the name of another event type; '' for none
    ADD COLUMN validation text NOT NULL DEFAULT 'enforce', -- off, warn, enforce
    ADD COLUMN schema_version integer NOT NULL DEFAULT 0,  -- grows with each change of the schema; 0: there was none yet
    ADD COLUMN dialect text NOT NULL DEFAULT '';           -- the vendor's API that brought the type with it; '' for none

-- The schemas of event types, a row for each change.
CREATE TABLE event_type_versions (
    tenant     text NOT NULL,
    name       text NOT NULL,
    version    integer NOT NULL,
    schema     jsonb,           -- null: the schema was removed
    at         timestamptz NOT NULL,
    actor_kind text NOT NULL,
    actor_id   text NOT NULL,
    actor_name text NOT NULL,
    PRIMARY KEY (tenant, name, version),
    FOREIGN KEY (tenant, name) REFERENCES event_types (tenant, name) ON DELETE CASCADE
);

UPDATE event_types SET schema_version = 1 WHERE schema IS NOT NULL AND NOT deleted;
INSERT INTO event_type_versions (tenant, name, version, schema, at, actor_kind, actor_id, actor_name)
SELECT tenant, name, 1, schema, updated_at, 'system', '', 'upgrade' FROM event_types WHERE schema IS NOT NULL AND NOT deleted;

-- Whether the data fits the schema of its type; null where that was not judged.
ALTER TABLE events ADD COLUMN schema_valid boolean;
