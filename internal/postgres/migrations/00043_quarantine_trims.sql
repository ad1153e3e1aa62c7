-- +goose Up
-- Of each tenant the newest messages are kept in quarantine. Those up to this id were there and have been removed.
CREATE TABLE quarantine_trims (
    tenant text PRIMARY KEY, -- '' for messages whose subject names none
    upto   uuid NOT NULL
);
