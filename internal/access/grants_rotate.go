package access

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/api"
)

// maxExchanges is how many exchanges of one key may be refreshed, and how many may be revoked, within the life of their
// tokens: each is a row.
const maxExchanges = 10_000

// rotate notes that a refresh token is used, and reports whether it had been used before.
func (g *Grants) rotate(ctx context.Context, t token) (used bool, err error) {
	var generation int64
	err = g.db.QueryRowContext(ctx, `
WITH old AS (DELETE FROM refreshed_grants WHERE id IN (SELECT id FROM refreshed_grants WHERE expires_at < now() LIMIT 100))
INSERT INTO refreshed_grants AS r (id, key_id, generation, expires_at)
SELECT $1, $2, $3::bigint + 1, $4
WHERE (SELECT count(*) FROM refreshed_grants WHERE key_id = $2) < $5 OR EXISTS (SELECT FROM refreshed_grants WHERE id = $1)
ON CONFLICT (id) DO UPDATE SET generation = excluded.generation, expires_at = excluded.expires_at WHERE r.generation = $3
RETURNING generation`, t.exchange, t.keyID, int64(t.generation), g.access.now().Add(renewFor), maxExchanges).Scan(&generation)
	if err == nil {
		return false, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return false, away(fmt.Errorf("refresh token of key %s: %w", t.keyID, err))
	}
	var known bool
	if err := g.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM refreshed_grants WHERE id = $1)`, t.exchange).Scan(&known); err != nil {
		return false, away(fmt.Errorf("refresh token of key %s: %w", t.keyID, err))
	}
	if !known {
		return false, errManyExchanges()
	}
	return true, nil
}

// end revokes all tokens of an exchange.
func (g *Grants) end(ctx context.Context, t token) error {
	// No token of the exchange outlives this: none is made of it from now on.
	until := g.access.now().Add(renewFor)
	var id uuid.UUID
	err := g.db.QueryRowContext(ctx, `
WITH old AS (DELETE FROM revoked_grants WHERE id IN (SELECT id FROM revoked_grants WHERE expires_at < now() LIMIT 100))
INSERT INTO revoked_grants (id, key_id, expires_at) SELECT $1, $2, $3
WHERE (SELECT count(*) FROM revoked_grants WHERE key_id = $2) < $4 OR EXISTS (SELECT FROM revoked_grants WHERE id = $1)
ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at RETURNING id`, t.exchange, t.keyID, until, maxExchanges).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return errManyExchanges()
	}
	if err != nil {
		return away(fmt.Errorf("revoke tokens of key %s: %w", t.keyID, err))
	}
	return nil
}

func errManyExchanges() error {
	return api.TooManyRequests("too many tokens of this key were refreshed or revoked; exchange the key again later, or revoke it", 3600)
}
