-- +goose Up

-- The subscriptions that fail longest, of all tenants.
CREATE INDEX failing_since ON failing (since, subscription_id);
