package main

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/keyring"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/running"
	"github.com/fanfarehq/fanfare/internal/seal"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
	"github.com/fanfarehq/fanfare/internal/terminal"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// rekeyCmd encrypts stored secrets anew, after a new key was put first in FANFARE_SECRET_KEYS.
type rekeyCmd struct{}

// Run may be repeated, and may run while Fanfare does.
func (rekeyCmd) Run(ctx context.Context, c *terminal.Terminal) error {
	s, err := readSettings()
	if err != nil {
		return err
	}
	url := s.server.PostgresURL
	if url == "" { // The private Postgres of a fanfare that runs with this data directory, and its keys.
		at, err := running.Read(s.server.DataDir)
		if err != nil {
			return fmt.Errorf("FANFARE_POSTGRES_URL is not set, and no fanfare all runs with FANFARE_DATA_DIR=%s: %w", s.server.DataDir, err)
		}
		url = at.Postgres
		if s.server.SecretKeys == "" {
			keys, err := os.ReadFile(filepath.Join(s.server.DataDir, secretKeysFile))
			if err != nil {
				return err
			}
			s.server.SecretKeys = strings.TrimSpace(string(keys))
		}
	}
	ring, err := seal.ParseRing(s.server.SecretKeys)
	if err != nil {
		return fmt.Errorf("FANFARE_SECRET_KEYS: %w", err)
	}
	db, err := postgres.Open(ctx, url, 2)
	if err != nil {
		return fmt.Errorf("FANFARE_POSTGRES_URL: %w", err)
	}
	defer db.Close()
	return rekey(ctx, c, rekeying{db: db, ring: ring, secretKeys: s.server.SecretKeys, log: s.log.logger(c.Err)})
}

// rekeying is the database and the ring whose first key is to seal everything.
type rekeying struct {
	db         *sql.DB
	ring       *seal.Ring
	secretKeys string
	log        *slog.Logger
}

// rekey seals everything with the first key, and says what still needs another.
func rekey(ctx context.Context, c *terminal.Terminal, with rekeying) error {
	own := keyring.New(with.db, with.ring)
	if err := own.Check(ctx); err != nil {
		return fmt.Errorf("FANFARE_SECRET_KEYS: %w", err)
	}
	subs, err := subscriptions.New(with.db, with.ring, egress.Policy{}).Rekey(ctx, func(int) {})
	broken := err // The other rows are done all the same.
	keys, err := tenantkeys.New(with.db, with.ring, with.log)
	if err != nil {
		return err
	}
	wrapped, err := keys.Rekey(ctx)
	if err != nil {
		return err
	}
	kept, err := keepPeppers(ctx, with, own)
	if err != nil {
		return err
	}
	others, err := own.Rekey(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "encrypted with key %s: %d subscriptions' secrets, %d keys of tenants, %d secrets of the deployment\n",
		with.ring.Current(), subs, wrapped, others)
	kept.print(c)
	if broken != nil {
		return fmt.Errorf("these do not open; rotate their secrets, or give back the key that they need: %w", broken)
	}
	fmt.Fprintln(c.Out, "no other key of FANFARE_SECRET_KEYS is needed any more; remove them once every process has this one")
	return nil
}

// peppered are the API keys whose hashes were made with a key of the ring.
type peppered []access.PepperedKey

// keepPeppers keeps what those hashes need of the ring, so that its keys may go although the API keys were not used since.
func keepPeppers(ctx context.Context, with rekeying, own *keyring.Keyring) (peppered, error) {
	list, err := access.KeysByPepper(ctx, with.db)
	if err != nil {
		return nil, err
	}
	peppers, err := access.ParsePeppers(with.secretKeys)
	if err != nil {
		return nil, fmt.Errorf("FANFARE_SECRET_KEYS: %w", err)
	}
	for _, p := range peppers {
		if !slices.ContainsFunc(list, func(k access.PepperedKey) bool { return k.Pepper == p.ID }) {
			continue
		}
		if err := own.KeepPepper(ctx, p.ID, p.Key); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// print lists them, for an operator whose old key was stolen.
func (list peppered) print(c *terminal.Terminal) {
	for _, k := range list {
		used := "never used"
		if k.LastUsed != nil {
			used = "last used " + k.LastUsed.UTC().Format(time.DateOnly)
		}
		of := fmt.Sprintf("of tenant %q", k.Tenant)
		if k.Tenant == "" {
			of = "over all tenants"
		}
		fmt.Fprintf(c.Out, "API key %s %q %s (%s) is hashed with a value derived from key %s, which is kept, encrypted; "+
			"its next use ends that. If key %s was stolen, revoke it\n", k.ID, k.Name, of, used, k.Pepper, k.Pepper)
	}
}
