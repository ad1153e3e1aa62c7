-- +goose Up

-- Which events name an object or a resource: ref is a hash of tenant, kind and value. Events that name none have no row.
CREATE TABLE event_refs (
    uid uuid NOT NULL, -- of the event
    ref uuid NOT NULL,
    PRIMARY KEY (uid, ref)
) PARTITION BY RANGE (uid);
CREATE INDEX event_refs_ref ON event_refs (ref, uid);
CREATE TABLE event_refs_rest PARTITION OF event_refs DEFAULT;

-- The HTTP status of the last attempt; 0 where none came.
ALTER TABLE deferrals ADD COLUMN status smallint NOT NULL DEFAULT 0;
