-- +goose Up

-- The held deferrals of a subscription, which a resume sets free: among however many that wait for a time.
CREATE INDEX deferrals_held ON deferrals (subscription_id, id) WHERE held AND NOT waits;
