-- +goose Up

-- Whether the event named its receivers, or was a test: then its type does not say who receives it. Null where it was
-- recorded before this was known.
ALTER TABLE events ADD COLUMN targeted boolean;
