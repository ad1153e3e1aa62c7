-- +goose Up

-- How far the erasure of a tenant is: rows and messages that were there when it began, and that are gone. It is swept again
-- for some minutes after its end, for what slow attempts bring back.
ALTER TABLE tenants
    ADD COLUMN erase_total bigint,
    ADD COLUMN erase_done bigint NOT NULL DEFAULT 0,
    ADD COLUMN swept_at timestamptz;
