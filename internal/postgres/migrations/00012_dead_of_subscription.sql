-- +goose Up

-- What was given up of one subscription, among however many of its own that arrived and of its tenant's that did not.
CREATE INDEX deliveries_not_delivered_subscription ON deliveries (subscription_id, state, id) WHERE state <> 'delivered';
-- Ids grow, and belong at the right end of a page; see the indexes of lists.
DROP INDEX deliveries_not_delivered;
CREATE INDEX deliveries_not_delivered ON deliveries (tenant, state, id) WHERE state <> 'delivered';
