-- +goose Up

-- The rate limits of subscriptions, shared by all workers: one row for each that has ever needed a permit. Times
-- are microseconds since 1970 by Postgres' clock.
CREATE TABLE rate_limits (
    subscription_id uuid PRIMARY KEY,
    gap             bigint NOT NULL, -- between two requests
    sent            bigint NOT NULL, -- when the requests permitted so far would all have been made, one gap after the other
    queue           bigint NOT NULL  -- the last time that was given to a delivery which has to wait
) WITH (fillfactor = 50);

-- Subscriptions that have been failing, without a success between.
CREATE TABLE failing (
    subscription_id uuid PRIMARY KEY,
    since           timestamptz NOT NULL, -- the first failure
    failures        bigint NOT NULL       -- attempts
) WITH (fillfactor = 50);
