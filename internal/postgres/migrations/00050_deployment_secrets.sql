-- +goose Up
-- Secrets of the whole deployment, sealed with the key ring: the one that hashes API keys, marks notices and signs cursors; peppers
-- of earlier hashes; and a canary for each key of the ring, by which a process with other bytes under the same id is told apart.
CREATE TABLE deployment_secrets (
    name       text PRIMARY KEY,
    sealed     bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
