-- +goose Up

-- How many deliveries a replay would have made of events whose bytes are gone.
ALTER TABLE replays ADD COLUMN unreachable bigint NOT NULL DEFAULT 0;
