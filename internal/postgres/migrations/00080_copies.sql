-- +goose Up

-- Whether the copy of an event is there for pending deliveries alone, so that it goes with the last of them.
ALTER TABLE event_data ADD COLUMN waiting boolean NOT NULL DEFAULT false;
CREATE INDEX event_data_waiting ON event_data (uid) WHERE waiting;
