package main

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/seal"
)

// The files of the data directory that hold what was made at the first start. Who loses secretKeysFile loses
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
		return value, true, writeFile(path, []byte(value+"\n"))
	}
	if err != nil {
		return "", false, fmt.Errorf("read the key of an earlier start: %w", err)
	}
	return strings.TrimSpace(string(content)), false, nil
}

// noticeMarks are the marks of Fanfare's own events: the same in every process that shares the key ring. The ring's first key
// marks and each checks, so that a ring can be rotated.
func noticeMarks(secretKeys string) (event.Marks, error) {
	peppers, err := access.ParsePeppers(secretKeys)
	if err != nil {
		return event.Marks{}, err
	}
	keys := make([][]byte, len(peppers))
	for i, p := range peppers {
		keys[i], err = hkdf.Key(sha256.New, p.Key, nil, "fanfare: marks of notices", sha256.Size)
		if err != nil {
			return event.Marks{}, fmt.Errorf("derive mark key: %w", err)
		}
	}
	return event.NewMarks(keys...), nil
}

// cursorKey signs the cursors of lists: the same in every process that shares the key ring.
func cursorKey(secretKeys string) []byte {
	mac := hmac.New(sha256.New, []byte(secretKeys))
	mac.Write([]byte("fanfare: cursors of lists"))
	return mac.Sum(nil)
}
