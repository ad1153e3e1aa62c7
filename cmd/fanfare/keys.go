package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/files"
	"github.com/fanfarehq/fanfare/internal/keyring"
	"github.com/fanfarehq/fanfare/internal/seal"
)

// The files of the data directory that hold the keys made at the first start. Who loses secretKeysFile loses
// every secret in the database.
const (
	adminKeyFile   = "admin.key"
	secretKeysFile = "secret.keys"
)

// keepKeys fills in the keys that the environment leaves open from the data directory, where it makes them at the
// first start. It returns true if it made the admin key.
func (s *settings) keepKeys() (fresh bool, err error) {
	if err := os.MkdirAll(s.server.DataDir, 0o700); err != nil {
		return false, fmt.Errorf("make FANFARE_DATA_DIR: %w", err)
	}
	if s.server.SecretKeys == "" {
		if s.server.SecretKeys, _, err = s.keepFile(secretKeysFile, seal.NewKey); err != nil {
			return false, err
		}
	}
	if s.access.AdminKey == "" {
		s.access.AdminKey, fresh, err = s.keepFile(adminKeyFile, func() string { return "ffadmin_" + rand.Text() })
	}
	return fresh, err
}

// keepFile reads a file of the data directory, or makes it.
func (s *settings) keepFile(name string, generate func() string) (value string, fresh bool, err error) {
	path := filepath.Join(s.server.DataDir, name)
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		value = generate()
		return value, true, files.Write(path, []byte(value+"\n"))
	}
	if err != nil {
		return "", false, fmt.Errorf("read the key of an earlier start: %w", err)
	}
	return strings.TrimSpace(string(content)), false, nil
}

// deploymentKeys are derived from the secret of the deployment: the same in every process, whatever its key ring.
type deploymentKeys struct {
	marks   event.Marks     // of Fanfare's own events
	cursors []byte          // sign the cursors of lists
	peppers []access.Pepper // of API keys; the first hashes
}

// readDeploymentKeys checks the key ring against the deployment and reads what all processes share.
func readDeploymentKeys(ctx context.Context, s *settings, ring *keyring.Keyring) (k deploymentKeys, err error) {
	derived := map[string][]byte{"marks of notices": nil, "cursors of lists": nil, "hashes of API keys": nil}
	for purpose := range derived {
		if derived[purpose], err = ring.Secret(ctx, purpose); err != nil {
			return k, fmt.Errorf("FANFARE_SECRET_KEYS: %w", err)
		}
	}
	// After it: a process that lacks the key of the deployment's secret has no say in which bytes an id means.
	if err := ring.Check(ctx); err != nil {
		return k, fmt.Errorf("FANFARE_SECRET_KEYS: %w", err)
	}
	k.marks, k.cursors = event.NewMarks(derived["marks of notices"]), derived["cursors of lists"]
	k.peppers = []access.Pepper{{ID: access.DeploymentPepper, Key: derived["hashes of API keys"]}}
	own, err := access.ParsePeppers(s.server.SecretKeys)
	if err != nil {
		return k, fmt.Errorf("FANFARE_SECRET_KEYS: %w", err)
	}
	k.peppers = append(k.peppers, own...)
	kept, err := ring.Peppers(ctx)
	if err != nil {
		return k, fmt.Errorf("FANFARE_SECRET_KEYS: %w", err)
	}
	for id, pepper := range kept {
		if !slices.ContainsFunc(own, func(p access.Pepper) bool { return p.ID == id }) {
			k.peppers = append(k.peppers, access.Pepper{ID: id, Key: pepper})
		}
	}
	return k, nil
}
