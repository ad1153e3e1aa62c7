package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// entry is a file of an archive, a package or an image.
type entry struct {
	Name string
	Mode fs.FileMode // of permissions
	Data []byte
}

// archive puts the binary with its papers into dist and returns the file's name.
func archive(of source, b binary, out string) (string, error) {
	var entries []entry
	for _, paper := range []string{"LICENSE", "README.md", "CHANGELOG.md"} {
		data, err := os.ReadFile(filepath.Join(of.Root, paper))
		if err != nil {
			return "", err
		}
		entries = append(entries, entry{paper, 0o644, data})
	}
	data, err := os.ReadFile(b.Path)
	if err != nil {
		return "", err
	}
	entries = append(entries, entry{b.program(), 0o755, data})
	name, write := fmt.Sprintf("fanfare_%s_%s_%s", of.Version, b.OS, b.Arch), writeTarGz
	if b.OS == "windows" {
		name, write = name+".zip", writeZip
	} else {
		name += ".tar.gz"
	}
	f, err := os.Create(filepath.Join(out, name))
	if err != nil {
		return "", err
	}
	if err := write(f, entries, of.Date); err != nil {
		return "", err
	}
	return name, f.Close()
}

func writeZip(w io.Writer, entries []entry, at time.Time) error {
	z := zip.NewWriter(w)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.Name, Method: zip.Deflate, Modified: at}
		h.SetMode(e.Mode)
		f, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		if _, err := f.Write(e.Data); err != nil {
			return err
		}
	}
	return z.Close()
}

func writeTarGz(w io.Writer, entries []entry, at time.Time) error {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Name: e.Name, Mode: int64(e.Mode), Size: int64(len(e.Data)), ModTime: at, Format: tar.FormatPAX}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(e.Data); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	return z.Close()
}

// checksums writes SHA256SUMS over the files of dist, as `sha256sum --check` reads it, and returns the sums by name.
func checksums(out string) (map[string]string, error) {
	files, err := os.ReadDir(out)
	if err != nil {
		return nil, err
	}
	sums := map[string]string{}
	var lines []string
	for _, f := range files {
		if !f.Type().IsRegular() || f.Name() == notes {
			continue
		}
		data, err := os.ReadFile(filepath.Join(out, f.Name()))
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(data)
		sums[f.Name()] = hex.EncodeToString(sum[:])
		lines = append(lines, sums[f.Name()]+"  "+f.Name()+"\n")
	}
	slices.Sort(lines)
	return sums, os.WriteFile(filepath.Join(out, "SHA256SUMS"), []byte(strings.Join(lines, "")), 0o644)
}
