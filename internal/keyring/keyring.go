package keyring

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/fanfarehq/fanfare/internal/seal"
)

// ErrWrongKey says that a key of the ring is not the one that the deployment knows by its id.
var ErrWrongKey = errors.New("the key has other bytes than the key of this id that the deployment uses")

const (
	canaryPrefix = "canary/"
	pepperPrefix = "pepper/"
	deployment   = "deployment"
	canaryText   = "fanfare"
)

// Keyring is the ring of a process and the rows of its deployment. It may be used concurrently.
type Keyring struct {
	db   *sql.DB
	ring *seal.Ring
}

// New makes a Keyring.
func New(db *sql.DB, ring *seal.Ring) *Keyring { return &Keyring{db: db, ring: ring} }

// Check compares each key of the ring with the canary of its id, and makes the canaries that are missing. It fails with
// ErrWrongKey and the id of the key.
func (k *Keyring) Check(ctx context.Context) error {
	for _, id := range k.ring.IDs() {
		name := canaryPrefix + id
		canary, err := k.ring.SealWith(id, []byte(canaryText), bind(name))
		if err != nil {
			return fmt.Errorf("seal canary: %w", err)
		}
		sealed, err := k.keep(ctx, name, canary)
		if err != nil {
			return err
		}
		if _, err := k.ring.Open(sealed, bind(name)); err != nil {
			return fmt.Errorf("key %q: %w", id, ErrWrongKey)
		}
	}
	return nil
}

// Secret derives a secret of the deployment for a purpose: the same in every process, whatever its ring. It is made once.
func (k *Keyring) Secret(ctx context.Context, purpose string) ([]byte, error) {
	fresh := make([]byte, sha256.Size)
	_, _ = rand.Read(fresh) // it never fails
	proposed, err := k.ring.Seal(fresh, bind(deployment))
	if err != nil {
		return nil, fmt.Errorf("seal the deployment's secret: %w", err)
	}
	sealed, err := k.keep(ctx, deployment, proposed)
	if err != nil {
		return nil, err
	}
	secret, err := k.ring.Open(sealed, bind(deployment))
	if id, bad := k.ring.KeyID(sealed); bad == nil && errors.Is(err, seal.ErrCorrupt) {
		return nil, fmt.Errorf("key %q: %w", id, ErrWrongKey)
	}
	if err != nil {
		return nil, fmt.Errorf("open the deployment's secret: %w", err)
	}
	derived, err := hkdf.Key(sha256.New, secret, nil, "fanfare: "+purpose, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the secret for %s: %w", purpose, err)
	}
	return derived, nil
}

// Peppers are those that KeepPepper kept, by the ids of the keys that they were derived from.
func (k *Keyring) Peppers(ctx context.Context) (map[string][]byte, error) {
	rows, err := k.read(ctx, pepperPrefix)
	if err != nil {
		return nil, err
	}
	peppers := make(map[string][]byte, len(rows))
	for name, sealed := range rows {
		id := strings.TrimPrefix(name, pepperPrefix)
		if peppers[id], err = k.ring.Open(sealed, bind(name)); err != nil {
			return nil, fmt.Errorf("open the pepper of key %q: %w", id, err)
		}
	}
	return peppers, nil
}

// KeepPepper keeps the pepper that was derived from a key of the ring, so that hashes by it can be compared without the key.
func (k *Keyring) KeepPepper(ctx context.Context, id string, pepper []byte) error {
	name := pepperPrefix + id
	sealed, err := k.ring.Seal(pepper, bind(name))
	if err != nil {
		return fmt.Errorf("seal pepper: %w", err)
	}
	_, err = k.keep(ctx, name, sealed)
	return err
}

// Rekey seals all but the canaries with the first key of the ring, forgets the canaries of keys that have left the ring, and
// returns how many rows it changed. It may be repeated, and run while everything else runs.
func (k *Keyring) Rekey(ctx context.Context) (done int, err error) {
	rows, err := k.read(ctx, "")
	if err != nil {
		return 0, err
	}
	for name, sealed := range rows {
		if id, ok := strings.CutPrefix(name, canaryPrefix); ok {
			if !k.ring.Has(id) {
				if _, err := k.db.ExecContext(ctx, "DELETE FROM deployment_secrets WHERE name = $1", name); err != nil {
					return done, fmt.Errorf("forget the canary of key %q: %w", id, err)
				}
			}
			continue
		}
		if id, err := k.ring.KeyID(sealed); err == nil && id == k.ring.Current() {
			continue
		}
		plain, err := k.ring.Open(sealed, bind(name))
		if err != nil {
			return done, fmt.Errorf("rekey %s: %w", name, err)
		}
		again, err := k.ring.Seal(plain, bind(name))
		if err != nil {
			return done, fmt.Errorf("rekey %s: %w", name, err)
		}
		if _, err := k.db.ExecContext(ctx, "UPDATE deployment_secrets SET sealed = $2 WHERE name = $1 AND sealed = $3", name, again, sealed); err != nil {
			return done, fmt.Errorf("rekey %s: %w", name, err)
		}
		done++
	}
	return done, nil
}

// keep stores a row unless it is there, and returns the one that is stored.
func (k *Keyring) keep(ctx context.Context, name string, proposed []byte) (sealed []byte, err error) {
	// Another process may have stored one in this moment: then the second statement finds it.
	if _, err := k.db.ExecContext(ctx, "INSERT INTO deployment_secrets (name, sealed) VALUES ($1, $2) ON CONFLICT DO NOTHING", name, proposed); err != nil {
		return nil, fmt.Errorf("store %s: %w", name, err)
	}
	if err := k.db.QueryRowContext(ctx, "SELECT sealed FROM deployment_secrets WHERE name = $1", name).Scan(&sealed); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return sealed, nil
}

// read returns the rows whose names have the prefix.
func (k *Keyring) read(ctx context.Context, prefix string) (map[string][]byte, error) {
	rows, err := k.db.QueryContext(ctx, "SELECT name, sealed FROM deployment_secrets WHERE starts_with(name, $1)", prefix)
	if err != nil {
		return nil, fmt.Errorf("read the deployment's secrets: %w", err)
	}
	defer rows.Close()
	all := map[string][]byte{}
	for rows.Next() {
		var name string
		var sealed []byte
		if err := rows.Scan(&name, &sealed); err != nil {
			return nil, fmt.Errorf("read the deployment's secrets: %w", err)
		}
		all[name] = sealed
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the deployment's secrets: %w", err)
	}
	return all, nil
}

// bind names the row that sealed bytes belong to.
func bind(name string) []byte { return []byte("deployment_secrets/" + name) }
