-- +goose Up

-- Jobs retry or cancel the deliveries of a filter. They are worked on as replays are.
ALTER TABLE replays
    ADD COLUMN kind text NOT NULL DEFAULT 'replay', -- replay, retry, cancel
    ADD COLUMN filter jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN expect bigint,                       -- how many deliveries a job was told to find
    ADD COLUMN end_reason text;                     -- why a job ended early by itself

-- Which replay or job made a delivery, so that those that no worker has in hand yet can be taken back.
ALTER TABLE deferrals ADD COLUMN replay_id uuid;
CREATE INDEX deferrals_replay ON deferrals (replay_id) WHERE replay_id IS NOT NULL AND attempts = 0;

-- Deliveries of a paused replay that no worker had in hand: made again when it is resumed.
CREATE TABLE recalled (
    replay_id       uuid NOT NULL REFERENCES replays (id) ON DELETE CASCADE,
    id              uuid NOT NULL,
    tenant          text NOT NULL,
    event_uid       uuid NOT NULL,
    event_id        text NOT NULL,
    event_type      text NOT NULL,
    seq             bigint NOT NULL,
    subscription_id uuid NOT NULL,
    generation      integer NOT NULL,
    reason          text NOT NULL,
    order_key       uuid,
    due_at          timestamptz NOT NULL,
    PRIMARY KEY (replay_id, id)
);

-- When a replay was paused or cancelled: for a while, workers may give deliveries of it back.
ALTER TABLE replays ADD COLUMN stopped_at timestamptz;
CREATE INDEX replays_stopped ON replays (stopped_at) WHERE state IN ('paused', 'cancelled');
