package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/seal"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// rekeyCmd encrypts stored secrets anew, after a new key was put first in FANFARE_SECRET_KEYS.
type rekeyCmd struct{}

// Run may be repeated, and may run while Fanfare does.
func (rekeyCmd) Run(ctx context.Context, c *console) error {
	s, err := readSettings()
	if err != nil {
		return err
	}
	url := s.server.PostgresURL
	if url == "" { // The private Postgres of a fanfare that runs with this data directory, and its keys.
		at, err := readRunning(s.server.DataDir)
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
	done, err := subscriptions.New(db, ring, egress.Policy{}).Rekey(ctx, func(done int) {
		fmt.Fprintf(c.err, "\r%d encrypted anew", done)
	})
	if err != nil {
		return err
	}
	keys, err := tenantkeys.New(db, ring, s.log.logger(c.err))
	if err != nil {
		return err
	}
	wrapped, err := keys.Rekey(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "\n%d subscriptions' secrets and %d tenants' keys encrypted anew with the first key; older keys may go once every process has it.\n",
		done, wrapped)
	return nil
}
