package servertest

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// FilesWith returns the files below a directory that hold the text, as it is or in base64; paths are relative to the directory.
// Servers may replace files meanwhile.
func FilesWith(t testing.TB, dir, text string) (holding []string) {
	t.Helper()
	forms := [][]byte{[]byte(text)}
	for shift := range 3 { // Of each alignment, the characters that hold nothing of what is around the text.
		encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("_", shift) + text))
		forms = append(forms, []byte(encoded[4:len(encoded)-4]))
	}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, path))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if slices.ContainsFunc(forms, func(form []byte) bool { return bytes.Contains(content, form) }) {
			holding = append(holding, path)
		}
		return err
	})
	if err != nil {
		t.Fatalf("servertest: look for files with a text: %v", err)
	}
	return holding
}
