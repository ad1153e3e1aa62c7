-- +goose Up
-- The session that a process last wrote its row with. Once that is gone and the row is old, the process was killed: one that
-- is stopped or cut off keeps its session.
ALTER TABLE processes
    ADD COLUMN backend       integer,
    ADD COLUMN backend_since timestamptz;
