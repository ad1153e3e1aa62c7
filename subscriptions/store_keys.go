package subscriptions

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/seal"
)

// KeyError says that rows are sealed with keys that are not in the ring: start with the ring that has them, or
// their secrets are lost.
type KeyError struct{ Rows map[string]int } // by key id

func (e *KeyError) Error() string {
	var parts []string
	for id, n := range e.Rows {
		parts = append(parts, fmt.Sprintf("%s sealed with key %q", plural(n, "subscription"), id))
	}
	return "FANFARE_SECRET_KEYS lacks keys that are in use: " + strings.Join(parts, ", ")
}

// CheckKeys returns a *KeyError unless the ring has the key of every row. It reads the head of each sealed
// column only, where internal/seal writes its version, and the key's id after the id's length. What is no
// sealed column at all concerns its subscription only.
func (s *Store) CheckKeys(ctx context.Context) error {
	rows, err := s.db.QueryContext(ctx, `
SELECT encode(substring(secrets FROM 3 FOR get_byte(secrets, 1)), 'escape') AS key, count(*) FROM subscriptions
WHERE length(secrets) > 2 AND get_byte(secrets, 0) = 1 GROUP BY key`)
	missing := &KeyError{Rows: map[string]int{}}
	err = postgres.Each(rows, err, func() error {
		var id string
		var n int
		if err := rows.Scan(&id, &n); err != nil {
			return err
		}
		if !s.ring.Has(id) {
			missing.Rows[id] = n
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("check keys: %w", err)
	}
	if len(missing.Rows) > 0 {
		return missing
	}
	return nil
}

// rekeyChunk is how many rows Rekey reads at once.
const rekeyChunk = 500

// Rekey seals the secrets of every row that is not sealed with the ring's first key anew, seals headers and URLs that an
// earlier version stored in the clear, and reports how many it has done after each chunk. It may be ended at any time and started again, and run while everything else
// runs: a row that changes meanwhile is sealed with the first key by whoever changes it. Nothing else about
// the rows changes, their revision included. Rows that do not open are left as they are and told in the error.
func (s *Store) Rekey(ctx context.Context, progress func(done int)) (done int, err error) {
	after := uuid.Nil
	var broken []error
	for {
		var chunk []row
		err := readRows(ctx, s.db, func(r *row) error {
			chunk = append(chunk, *r)
			return nil
		}, `WHERE id > $1 AND NOT deleted ORDER BY id LIMIT $2`, after, rekeyChunk)
		if err != nil {
			return done, err
		}
		for i := range chunk {
			r := &chunk[i]
			after = r.id
			n, err := s.rekeyRow(ctx, r)
			switch {
			case errors.Is(err, seal.ErrCorrupt), errors.Is(err, seal.ErrUnknownKey):
				broken = append(broken, err)
			case err != nil:
				return done, err
			}
			done += n
		}
		if progress != nil {
			progress(done)
		}
		if len(chunk) < rekeyChunk {
			return done, errors.Join(broken...)
		}
	}
}

func (s *Store) rekeyRow(ctx context.Context, r *row) (int, error) {
	if r.settings.headers != "{}" || maskURL(r.url) != r.url {
		return s.sealRow(ctx, r)
	}
	if len(r.sealed) == 0 {
		return 0, nil
	}
	if id, err := s.ring.KeyID(r.sealed); err == nil && id == s.ring.Current() {
		return 0, nil
	}
	bound := binding(r.tenant, r.id, columnSecrets)
	plain, err := s.ring.Open(r.sealed, bound)
	if err != nil {
		return 0, fmt.Errorf("rekey subscription %s: %w", r.id, err)
	}
	sealed, err := s.ring.Seal(plain, bound)
	if err != nil {
		return 0, fmt.Errorf("rekey subscription %s: %w", r.id, err)
	}
	if _, err := s.db.ExecContext(ctx, `UPDATE subscriptions SET secrets = $2 WHERE id = $1 AND secrets = $3`, r.id, sealed, r.sealed); err != nil {
		return 0, fmt.Errorf("rekey subscription %s: %w", r.id, err)
	}
	return 1, nil
}

// sealRow seals what a row has in the clear.
func (s *Store) sealRow(ctx context.Context, r *row) (int, error) {
	sub, err := s.open(r)
	if err == nil {
		err = sub.Err
	}
	if err != nil {
		return 0, fmt.Errorf("rekey subscription %s: %w", r.id, err)
	}
	sealed, err := sealSecrets(s.ring, sub)
	if err != nil {
		return 0, fmt.Errorf("rekey subscription %s: %w", r.id, err)
	}
	if _, err := s.db.ExecContext(ctx, `UPDATE subscriptions SET secrets = $2, url = $3, headers = '{}' WHERE id = $1 AND revision = $4 AND NOT deleted`,
		r.id, sealed, maskURL(sub.URL), r.revision); err != nil {
		return 0, fmt.Errorf("rekey subscription %s: %w", r.id, err)
	}
	return 1, nil
}
