-- +goose Up

-- The admin key of the environment and the system have ids of their own, so that their changes can be asked for.
UPDATE changes SET actor_id = actor_kind WHERE actor_id = '' AND actor_kind IN ('admin', 'system');
UPDATE event_type_versions SET actor_id = actor_kind WHERE actor_id = '' AND actor_kind IN ('admin', 'system');
