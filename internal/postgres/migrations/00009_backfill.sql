-- +goose Up

-- Of a replay that makes only what was never made: the last place in the stream of events that it looks at. Null
-- until all events up to there are matched and what they matched is in the ledger.
ALTER TABLE replays ADD COLUMN last_seq bigint;
