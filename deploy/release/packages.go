package main

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // registers deb
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm" // registers rpm
)

// packaged are the units, the settings and the scripts of the Linux packages.
//
//go:embed files
var packaged embed.FS

// packages makes a deb and an rpm of a Linux binary.
func packages(of source, b binary, out string) error {
	from, err := os.MkdirTemp("", "fanfare-package-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(from)
	if err := os.CopyFS(from, packaged); err != nil {
		return err
	}
	for _, format := range []string{"deb", "rpm"} {
		packager, err := nfpm.Get(format)
		if err != nil {
			return err
		}
		info := nfpm.WithDefaults(contents(of, b, filepath.Join(from, "files")))
		if err := nfpm.PrepareForPackager(info, format); err != nil {
			return fmt.Errorf("%s: %w", format, err)
		}
		f, err := os.Create(filepath.Join(out, packager.ConventionalFileName(info)))
		if err != nil {
			return err
		}
		if err := packager.Package(info, f); err != nil {
			return fmt.Errorf("%s: %w", format, err)
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// contents describes a package; nfpm changes it, so each format gets one of its own.
func contents(of source, b binary, from string) *nfpm.Info {
	file := func(source, destination, kind string, mode fs.FileMode, owner string) *files.Content {
		return &files.Content{
			Source: source, Destination: destination, Type: kind,
			FileInfo: &files.ContentFileInfo{Owner: owner, Group: "root", Mode: mode, MTime: of.Date},
		}
	}
	settings := file(filepath.Join(from, "fanfare.env"), "/etc/fanfare/fanfare.env", files.TypeConfigNoReplace, 0o640, "root")
	return &nfpm.Info{
		Name: "fanfare", Arch: b.Arch, Platform: "linux", Version: of.Version, Section: "net", Priority: "optional",
		Maintainer: "The Fanfare authors <maintainers@fanfare.example>", License: "Apache-2.0",
		Homepage: "https://github.com/fanfarehq/fanfare", Description: "Turns a platform's events into webhooks.",
		MTime: of.Date, DisableGlobbing: true,
		Overridables: nfpm.Overridables{
			Recommends: []string{"postgresql", "ca-certificates"},
			Contents: files.Contents{
				file(b.Path, "/usr/bin/fanfare", files.TypeFile, 0o755, "root"),
				file(filepath.Join(from, "fanfare.service"), "/usr/lib/systemd/system/fanfare.service", files.TypeFile, 0o644, "root"),
				file(filepath.Join(from, "fanfare@.service"), "/usr/lib/systemd/system/fanfare@.service", files.TypeFile, 0o644, "root"),
				settings,
				file(filepath.Join(of.Root, "LICENSE"), "/usr/share/doc/fanfare/copyright", files.TypeFile, 0o644, "root"),
			},
			Scripts: nfpm.Scripts{
				PostInstall: filepath.Join(from, "postinstall.sh"), PreRemove: filepath.Join(from, "preremove.sh"),
			},
			Deb: nfpm.Deb{Compression: "gzip"},
			RPM: nfpm.RPM{Summary: "Turns a platform's events into webhooks", BuildHost: "localhost", Compression: "gzip"},
		},
	}
}
