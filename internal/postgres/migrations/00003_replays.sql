-- +goose Up

-- Spans of the past that are sent again. One process at a time works on a replay; its place moves on in the
-- transaction that makes the deliveries, so each is made once, whatever happens to the process.
CREATE TABLE replays (
    id              uuid PRIMARY KEY,
    tenant          text NOT NULL,
    subscription_id uuid,          -- null: of every subscription, dead letters only
    which           text NOT NULL, -- dead, undelivered, all
    since           timestamptz NOT NULL,
    until           timestamptz NOT NULL,
    event_id        text NOT NULL DEFAULT '',
    types           text[] NOT NULL DEFAULT '{}',
    rate            integer NOT NULL, -- deliveries per second
    dry_run         boolean NOT NULL,
    state           text NOT NULL, -- counting, running, paused, done, cancelled
    counted         boolean NOT NULL DEFAULT false,
    matched         bigint NOT NULL DEFAULT 0,
    sent            bigint NOT NULL DEFAULT 0,
    place           uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000', -- the last event or delivery that was looked at
    next_at         timestamptz,   -- when the rate allows the next delivery
    worker          text NOT NULL DEFAULT '',
    lease_until     timestamptz NOT NULL DEFAULT now(),
    created_at      timestamptz NOT NULL DEFAULT now(),
    ended_at        timestamptz
);
CREATE INDEX replays_open ON replays (lease_until) WHERE state IN ('counting', 'running');
CREATE INDEX replays_tenant ON replays (tenant, id DESC);

-- When an event's bytes were erased on demand: from then on nobody misses them.
ALTER TABLE events ADD COLUMN erased_at timestamptz;

-- What one process at a time does for all, such as retention and reconciling.
CREATE TABLE chores (
    name   text PRIMARY KEY,
    worker text NOT NULL,
    until  timestamptz NOT NULL, -- the end of the worker's lease
    place  timestamptz           -- up to where it was done
);
