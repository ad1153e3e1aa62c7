-- +goose Up

-- Rows of deferrals come and go by the thousand a second. Vacuum looks at the table after a thousand dead rows and a
-- hundredth of it, instead of a fifth, and does not rest: otherwise a backlog that drains leaves table and indexes at
-- several times their size, and claims read what is dead.
ALTER TABLE deferrals SET (
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.05
);
