-- +goose Up

-- Up to when each event's deliveries have ended or are pending here, whatever the broker loses; and the process of NATS whose
-- losses were found. NATS has another id after each start.
CREATE TABLE settled (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    broker text NOT NULL,
    until  timestamptz NOT NULL -- events that were accepted before or at this time
);
