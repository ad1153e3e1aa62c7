-- +goose Up

-- Deliveries that are made in the order of a key, of subscriptions that ask for it. What waits for its turn is held as
-- well, so that nobody claims it. Of one key at most one row does not wait.
ALTER TABLE deferrals
    ADD COLUMN order_key uuid, -- a hash of the key; null: in no order
    ADD COLUMN waits boolean NOT NULL DEFAULT false;
CREATE INDEX deferrals_order ON deferrals (subscription_id, order_key, seq, generation) WHERE order_key IS NOT NULL;
CREATE INDEX deferrals_turn ON deferrals (subscription_id, order_key) WHERE order_key IS NOT NULL AND NOT waits;
CREATE INDEX deferrals_waits ON deferrals (seq) WHERE waits;

-- Keys that stand still because a delivery was given up: nothing but that event's goes until it was sent, or passed over.
CREATE TABLE stopped_keys (
    subscription_id uuid NOT NULL,
    order_key       uuid NOT NULL,
    event_uid       uuid NOT NULL,
    stopped_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (subscription_id, order_key)
);
CREATE INDEX stopped_keys_event ON stopped_keys (event_uid);
