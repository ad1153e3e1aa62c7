-- +goose Up

-- What the sums of a tenant's minute or hour hold: which event types are counted apart, and how many rows there are. Both are
-- bounded; what exceeds them is counted without its type, and without its subscription.
CREATE TABLE count_bins (
    tenant text NOT NULL,
    step   smallint NOT NULL,
    at     timestamptz NOT NULL,
    types  text[] NOT NULL,
    rows   integer NOT NULL,
    PRIMARY KEY (tenant, step, at)
) WITH (fillfactor = 70);
CREATE INDEX count_bins_at ON count_bins (step, at);
