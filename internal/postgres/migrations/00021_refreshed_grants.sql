-- +goose Up

-- Exchanges of a key for tokens that were refreshed: which refresh token is the current one. An older one that is shown
-- again was copied.
CREATE TABLE refreshed_grants (
    id         uuid PRIMARY KEY, -- of the exchange
    key_id     text NOT NULL,
    generation bigint NOT NULL,  -- how often it was refreshed
    expires_at timestamptz NOT NULL
);
CREATE INDEX refreshed_grants_key ON refreshed_grants (key_id);
CREATE INDEX refreshed_grants_expires_at ON refreshed_grants (expires_at);

-- How many of one key there are is bounded.
ALTER TABLE revoked_grants ADD COLUMN key_id text NOT NULL DEFAULT '';
CREATE INDEX revoked_grants_key ON revoked_grants (key_id);
