-- +goose Up

-- Deliveries that a dialect's client deleted from its log. The ledger keeps them. Those that retention took from the
-- ledger leave here as others come.
CREATE TABLE hidden_deliveries (
    delivery_id uuid PRIMARY KEY,
    hidden_at   timestamptz NOT NULL DEFAULT now()
);

-- Exchanges of a key for tokens that were revoked before the tokens expired.
CREATE TABLE revoked_grants (
    id         uuid PRIMARY KEY,
    expires_at timestamptz NOT NULL -- when no token of the exchange can hold any longer
);
CREATE INDEX revoked_grants_expires_at ON revoked_grants (expires_at);
