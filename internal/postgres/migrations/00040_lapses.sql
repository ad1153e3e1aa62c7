-- +goose Up

-- How often a lease of this delivery lapsed, without an outcome between: how often its worker died with it in hand.
ALTER TABLE deferrals ADD COLUMN lapses smallint NOT NULL DEFAULT 0;
