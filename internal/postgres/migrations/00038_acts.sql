-- +goose Up

-- A delivery that was retried by hand is attempted once although its subscription is paused. It is no test for that.
ALTER TABLE deferrals ADD COLUMN by_hand boolean NOT NULL DEFAULT false;

-- An attempt that was to end its delivery, which something else had ended meanwhile.
ALTER TABLE attempts ADD COLUMN last boolean NOT NULL DEFAULT false;

-- Messages of several streams have the same place, and one message may hold several records that cannot be written: each has an
-- id of its own.
ALTER TABLE quarantine DROP CONSTRAINT IF EXISTS quarantine_stream_seq_received_at_key;
