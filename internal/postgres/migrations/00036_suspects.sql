-- +goose Up

-- Messages that may have been in hand when a process died, while they are handled: how often that was begun. A row that is left
-- there counts deaths in a row.
CREATE TABLE suspects (
    stream    text NOT NULL,
    seq       bigint NOT NULL,
    stored_at timestamptz NOT NULL,
    tries     smallint NOT NULL DEFAULT 1,
    begun_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream, seq, stored_at)
);
CREATE INDEX suspects_begun ON suspects (begun_at);
