-- +goose Up

-- The sums of delivery_counts over all tenants, without type and subscription: few rows, however many tenants there are.
CREATE TABLE delivery_totals (
    step   smallint NOT NULL,
    at     timestamptz NOT NULL,
    reason text NOT NULL,
    class  smallint NOT NULL,
    ended  smallint NOT NULL,
    bucket smallint NOT NULL,
    n      bigint NOT NULL,
    PRIMARY KEY (step, at, reason, class, ended, bucket)
) WITH (fillfactor = 70);

INSERT INTO delivery_totals
SELECT step, at, reason, class, ended, bucket, sum(n)::bigint FROM delivery_counts GROUP BY 1, 2, 3, 4, 5, 6;
