-- +goose Up

-- What became of deliveries, counted. A packet is what one transaction of a recorder counted, one row whatever it holds; a
-- chore folds packets into delivery_counts every few seconds.
CREATE TABLE count_packets (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at              timestamptz[] NOT NULL, -- minutes
    tenant          text[] NOT NULL,
    subscription_id uuid[] NOT NULL,
    event_type      text[] NOT NULL,
    reason          text[] NOT NULL,
    class           smallint[] NOT NULL, -- first digit of the HTTP status of an attempt; 0 where none came
    ended           smallint[] NOT NULL, -- 0: not, 1: delivered, 2: dead, 3: cancelled
    bucket          smallint[] NOT NULL, -- of the attempt's duration: 4 * log2 of microseconds; -1 without an attempt
    n               bigint[] NOT NULL
);

-- Sums by minute (step 1) and by hour (step 60).
CREATE TABLE delivery_counts (
    tenant          text NOT NULL,
    step            smallint NOT NULL,
    at              timestamptz NOT NULL,
    subscription_id uuid NOT NULL,
    event_type      text NOT NULL,
    reason          text NOT NULL,
    class           smallint NOT NULL,
    ended           smallint NOT NULL,
    bucket          smallint NOT NULL,
    n               bigint NOT NULL,
    PRIMARY KEY (tenant, step, at, subscription_id, event_type, reason, class, ended, bucket)
) WITH (fillfactor = 70);
CREATE INDEX delivery_counts_at ON delivery_counts (step, at);
