-- +goose Up

-- When everything that the tenant's name stood for was gone; null while the erasure is under way.
ALTER TABLE tenants ADD COLUMN erased_at timestamptz;

-- Who deletes tenants and who serves requests are different processes: each looks for what was deleted lately.
CREATE INDEX tenants_deleted_at ON tenants (deleted_at) WHERE deleted_at IS NOT NULL;
