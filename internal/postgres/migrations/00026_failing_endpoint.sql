-- +goose Up
-- A streak of failures is that of one endpoint: it ends when the subscription's URL changes. Endpoint is a digest of the URL,
-- '' in rows that an earlier version wrote; revision is that of the subscription at the last attempt counted.
ALTER TABLE failing
    ADD COLUMN endpoint text NOT NULL DEFAULT '',
    ADD COLUMN revision bigint NOT NULL DEFAULT 0;
