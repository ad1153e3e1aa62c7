-- +goose Up
-- The processes of this installation: each writes its row every few seconds, and removes it when it stops. A row whose
-- seen_at is old is of a process that was killed.
CREATE TABLE processes (
    id         uuid PRIMARY KEY,
    role       text        NOT NULL,
    host       text        NOT NULL,
    version    text        NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now()
);
