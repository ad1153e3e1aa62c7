-- +goose Up

-- The first generation of an event's deliveries has ids of the event's millisecond, and is found by the primary key.
-- Later ones lie anywhere after it. Few deliveries are of a later generation, so this index costs nearly nothing.
DROP INDEX deliveries_event;
CREATE INDEX deliveries_event ON deliveries (event_uid) WHERE generation > 0;
