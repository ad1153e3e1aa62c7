-- +goose Up

-- The keys that event data and responses are sealed with: one of each tenant and day (days since 1970, UTC), itself
-- sealed with the key ring. An empty key is destroyed and leaves with its row.
CREATE TABLE tenant_keys (
    tenant text NOT NULL, -- '' seals messages whose tenant is not known
    day    integer NOT NULL,
    key    bytea NOT NULL,
    PRIMARY KEY (tenant, day)
) PARTITION BY HASH (tenant);

-- A deleted row stays in its file until the file is rewritten. Partitions keep that short.
-- +goose StatementBegin
DO $$
BEGIN
    FOR i IN 0..15 LOOP
        EXECUTE format('CREATE TABLE tenant_keys_%s PARTITION OF tenant_keys FOR VALUES WITH (MODULUS 16, REMAINDER %s)', i, i);
    END LOOP;
END
$$;
-- +goose StatementEnd

-- Whether detail and data are sealed. Messages of earlier versions are not.
ALTER TABLE quarantine ADD COLUMN sealed boolean NOT NULL DEFAULT false;
