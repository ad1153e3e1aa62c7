-- +goose Up
-- How often a deferral's attempt failed because of an outage of the worker's own network and cost no step of the schedule.
ALTER TABLE deferrals ADD COLUMN excused smallint NOT NULL DEFAULT 0;
