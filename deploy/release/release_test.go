package main

import (
	"archive/tar"
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

var commit = strings.Repeat("0123456789", 4)

// released is what one run of the command leaves. The binary of this machine is Fanfare; those of other platforms are a small
// program, since compiling Fanfare six times would take minutes.
var released = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "fanfare-release-"); err != nil {
		return dir, err
	}
	of := source{
		Root: "../..", Version: "1.2.3", Commit: commit, Date: time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC), Notes: "Notes.\n",
	}
	if of.Root, err = filepath.Abs(of.Root); err != nil {
		return dir, err
	}
	small := filepath.Join(dir, "small")
	if out, err := exec.Command("go", "build", "-o", small, "./testdata/small").CombinedOutput(); err != nil {
		return dir, errors.New(string(out))
	}
	var built []binary
	for _, p := range platforms {
		b := binary{p, small}
		if p == here {
			if b, err = compile(context.Background(), of, p, filepath.Join(dir, "bin")); err != nil {
				return dir, err
			}
		}
		built = append(built, b)
	}
	dist := filepath.Join(dir, "dist")
	return dir, errors.Join(os.Mkdir(dist, 0o755), pack(of, built, dist))
})

var here = platform{"linux", runtime.GOARCH}

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := released(); dir != "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// dist is the folder of the artifacts.
func dist(t *testing.T) string {
	t.Helper()
	dir, err := released()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "dist")
}

func output(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// The files of a release are there, and their checksums are true.
func TestArtifacts(t *testing.T) {
	t.Parallel()
	dir := dist(t)
	want := []string{"NOTES.md", "SHA256SUMS", "fanfare.rb", "image"}
	for _, p := range []string{"darwin_amd64", "darwin_arm64", "linux_amd64", "linux_arm64"} {
		want = append(want, "fanfare_1.2.3_"+p+".tar.gz", "fanfare_1.2.3_"+p+".cdx.json")
	}
	for _, p := range []string{"windows_amd64", "windows_arm64"} {
		want = append(want, "fanfare_1.2.3_"+p+".zip", "fanfare_1.2.3_"+p+".cdx.json")
	}
	want = append(want, "fanfare_1.2.3_amd64.deb", "fanfare_1.2.3_arm64.deb", "fanfare-1.2.3-1.x86_64.rpm", "fanfare-1.2.3-1.aarch64.rpm")
	var got []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
	output(t, dir, "sha256sum", "--check", "--strict", "SHA256SUMS")
}

// The archive's binary is static and knows what it is.
func TestArchive(t *testing.T) {
	t.Parallel()
	to := t.TempDir()
	output(t, dist(t), "tar", "-xzf", "fanfare_1.2.3_linux_"+here.Arch+".tar.gz", "-C", to)
	for _, name := range []string{"LICENSE", "README.md", "CHANGELOG.md"} {
		if _, err := os.Stat(filepath.Join(to, name)); err != nil {
			t.Error(err)
		}
	}
	knows(t, output(t, to, filepath.Join(to, "fanfare"), "version", "--json"))
}

// knows checks the answer of `fanfare version --json`.
func knows(t *testing.T, answer string) {
	t.Helper()
	var got map[string]string
	if err := json.Unmarshal([]byte(answer), &got); err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
	for name, want := range map[string]string{
		"version": "1.2.3", "commit": commit, "date": "2026-11-29T12:00:00Z", "go": runtime.Version(), "os": "linux", "arch": here.Arch,
	} {
		if got[name] != want {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
}

// Windows gets a zip file with a program that it can start.
func TestArchiveOfWindows(t *testing.T) {
	t.Parallel()
	z, err := zip.OpenReader(filepath.Join(dist(t), "fanfare_1.2.3_windows_amd64.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var got []string
	for _, f := range z.File {
		got = append(got, f.Name)
	}
	if want := []string{"LICENSE", "README.md", "CHANGELOG.md", "fanfare.exe"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// The bill of materials names the modules of the binary.
func TestBill(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join(dist(t), "fanfare_1.2.3_linux_"+here.Arch+".cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var bill struct {
		BOMFormat  string
		Components []struct{ Name, Version, PURL string }
	}
	if err := json.Unmarshal(data, &bill); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range bill.Components {
		names = append(names, c.Name)
		if c.Version == "" || c.PURL == "" {
			t.Errorf("%s has no version or no package URL", c.Name)
		}
	}
	for _, want := range []string{"std", "github.com/nats-io/nats.go", "github.com/lib/pq"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is missing in %v", want, names)
		}
	}
}

// Debian's own tool reads the deb: fields, files, rights, settings.
func TestDeb(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Log("not run: this machine has no dpkg-deb")
		return
	}
	file, to := "fanfare_1.2.3_"+here.Arch+".deb", t.TempDir()
	fields := output(t, dist(t), "dpkg-deb", "--field", file)
	for _, want := range []string{"Package: fanfare", "Version: 1.2.3", "Architecture: " + here.Arch} {
		if !strings.Contains(fields, want) {
			t.Errorf("got %s, want %s", fields, want)
		}
	}
	output(t, dist(t), "dpkg-deb", "--raw-extract", file, to)
	for name, mode := range map[string]os.FileMode{
		"usr/bin/fanfare": 0o755, "usr/lib/systemd/system/fanfare.service": 0o644, "usr/lib/systemd/system/fanfare@.service": 0o644,
		"etc/fanfare/fanfare.env": 0o640, "usr/share/doc/fanfare/copyright": 0o644,
	} {
		info, err := os.Stat(filepath.Join(to, name))
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != mode {
			t.Errorf("%s: got %v, want %v", name, info.Mode().Perm(), mode)
		}
	}
	settings, err := os.ReadFile(filepath.Join(to, "DEBIAN/conffiles"))
	if err != nil || strings.TrimSpace(string(settings)) != "/etc/fanfare/fanfare.env" {
		t.Errorf("settings that an upgrade keeps: %q, %v", settings, err)
	}
	knows(t, output(t, to, filepath.Join(to, "usr/bin/fanfare"), "version", "--json"))
	for _, script := range []string{"postinst", "prerm"} {
		output(t, to, "sh", "-n", filepath.Join(to, "DEBIAN", script))
	}
}

// The units start commands that exist, as a user of their own, with no right beyond their state directory.
func TestUnits(t *testing.T) {
	t.Parallel()
	for unit, command := range map[string]string{"fanfare.service": "all", "fanfare@.service": "%i"} {
		data, err := packaged.ReadFile("files/" + unit)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{
			"ExecStart=/usr/bin/fanfare " + command, "EnvironmentFile=/etc/fanfare/fanfare.env", "User=fanfare", "ProtectSystem=strict",
			"ProtectHome=yes", "PrivateTmp=yes", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "SystemCallFilter=@system-service",
			"RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX", "TimeoutStopSec=45",
		} {
			if !strings.Contains(string(data), "\n"+line+"\n") {
				t.Errorf("%s lacks %s", unit, line)
			}
		}
		if strings.Contains(string(data), "fanfare all") != (command == "all") {
			t.Errorf("%s starts something else:\n%s", unit, data)
		}
		if _, err := exec.LookPath("systemd-analyze"); err != nil {
			continue
		}
		file := filepath.Join(t.TempDir(), unit)
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(data), "/usr/bin/fanfare", "/bin/true")), 0o600); err != nil {
			t.Fatal(err)
		}
		// An exposure of 2.0 of 10 is what systemd calls OK.
		output(t, "", "systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", file)
	}
}

// The formula names each archive with its checksum.
func TestFormula(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(dist(t), "fanfare.rb"))
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(dist(t), "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for line := range strings.Lines(string(sums)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		if strings.HasSuffix(name, ".tar.gz") {
			named++
			if !strings.Contains(string(text), name+"\"\n      sha256 \""+sum+`"`) {
				t.Errorf("the formula lacks %s with %s:\n%s", name, sum, text)
			}
		}
	}
	if named != 4 {
		t.Errorf("%d archives, want 4", named)
	}
	if _, err := exec.LookPath("ruby"); err == nil {
		output(t, dist(t), "ruby", "-c", "fanfare.rb")
	}
}

// images returns those of the layout by their platform.
func images(t *testing.T) map[string]v1.Image {
	t.Helper()
	index, err := layout.ImageIndexFromPath(filepath.Join(dist(t), "image"))
	if err != nil {
		t.Fatal(err)
	}
	outer, err := index.IndexManifest()
	if err != nil || len(outer.Manifests) != 1 || outer.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != "1.2.3" {
		t.Fatalf("%v, %+v", err, outer)
	}
	inner, err := index.ImageIndex(outer.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := inner.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]v1.Image{}
	for _, m := range manifest.Manifests {
		one, err := inner.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		all[m.Platform.OS+"/"+m.Platform.Architecture] = one
	}
	return all
}

// The image is small, for both architectures, and runs as a user without rights on a root that nobody can write to.
func TestImage(t *testing.T) {
	t.Parallel()
	all := images(t)
	if len(all) != 2 || all["linux/amd64"] == nil || all["linux/arm64"] == nil {
		t.Fatalf("got %v, want linux/amd64 and linux/arm64", all)
	}
	one := all[here.String()]
	config, err := one.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532:65532" || !slices.Equal(config.Config.Entrypoint, []string{"/fanfare"}) {
		t.Errorf("it starts %v as %s", config.Config.Entrypoint, config.Config.User)
	}
	layers, err := one.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, l := range layers {
		n, err := l.Size()
		if err != nil {
			t.Fatal(err)
		}
		size += n
	}
	t.Logf("compressed: %.1f MB", float64(size)/1e6)
	if size > 40e6 {
		t.Errorf("compressed it has %d bytes, want fewer than 40 MB", size)
	}
	root := unpack(t, one)
	if roots, err := os.ReadFile(filepath.Join(root, "etc/ssl/certs/ca-certificates.crt")); err != nil || strings.Count(string(roots), "BEGIN") < 100 {
		t.Errorf("certificates: %v, %d bytes", err, len(roots))
	}
	knows(t, contained(t, root, config, "version", "--json"))
	if settings := contained(t, root, config, "config"); !strings.Contains(settings, "0.0.0.0:8080") {
		t.Errorf("the settings of the image do not count:\n%s", settings)
	}
}

// What is pushed is what was built, for both architectures.
func TestPush(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	to := strings.TrimPrefix(server.URL, "http://") + "/fanfare:1.2.3"
	if err := push(t.Context(), filepath.Join(dist(t), "image"), to); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(to)
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.Index(tag)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := got.IndexManifest()
	if err != nil || len(manifest.Manifests) != 2 {
		t.Errorf("got %+v, %v, want two images", manifest, err)
	}
}

// unpack lays the layers over each other, as a container engine does.
func unpack(t *testing.T, one v1.Image) (root string) {
	t.Helper()
	root = t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	files := mutate.Extract(one)
	defer files.Close()
	for r := tar.NewReader(files); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return root
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, filepath.Clean("/"+h.Name))
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o755)
		case tar.TypeReg:
			var data []byte
			if data, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, data, 0o600)
			}
		default:
			t.Fatalf("%s has type %c", h.Name, h.Typeflag)
		}
		err = errors.Join(err, os.Chmod(path, h.FileInfo().Mode()))
		if os.Getuid() == 0 {
			err = errors.Join(err, os.Chown(path, h.Uid, h.Gid))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// contained runs the image's program in its own file system, which is read-only, as its user. Where this machine does not
// permit that, it runs the unpacked program with the image's environment.
func contained(t *testing.T, root string, config *v1.ConfigFile, args ...string) string {
	t.Helper()
	const inside = `set -e
mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; root=$1; shift
if touch "$root/data/x" 2>/dev/null; then echo "the root can be written to" >&2; exit 9; fi
exec chroot --userspec=65532:65532 "$root" /fanfare "$@"`
	name, before := "unshare", []string{"--mount", "sh", "-c", inside, "sh", root}
	if exec.CommandContext(t.Context(), "unshare", "--mount", "true").Run() != nil {
		t.Log("this machine permits no mount: the program runs without its own root")
		name, before = filepath.Join(root, "fanfare"), nil
	}
	cmd := exec.CommandContext(t.Context(), name, append(before, args...)...)
	cmd.Env = config.Config.Env
	if before != nil {
		cmd.Env = append(slices.Clone(cmd.Env), "PATH="+os.Getenv("PATH"))
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("fanfare %v: %v\n%s", args, err, errs.String())
	}
	return string(out)
}

// The changelog decides the version; a tag must agree with it.
func TestCurrent(t *testing.T) {
	t.Parallel()
	const changelog = "# Changelog\n\n## Unreleased\n\nnew\n\n## 1.3.0-rc.1 - 2026-12-02\n\nsoon\n\n## 1.2.3 - 2026-12-01\n\n### Fixed\n\nold\n"
	tests := []struct {
		name, changelog, tag string
		snapshot             bool
		version, notes, err  string
	}{
		{"tagged", changelog, "v1.2.3", false, "1.2.3", "### Fixed\n\nold", ""},
		{"release candidate", changelog, "v1.3.0-rc.1", false, "1.3.0-rc.1", "soon", ""},
		{"snapshot", changelog, "", true, "1.3.1-snapshot.01234567", "new", ""},
		{"snapshot before the first release", "## Unreleased\n\nnew\n", "", true, "0.0.1-snapshot.01234567", "new", ""},
		{"tag without a section", changelog, "v9.9.9", false, "", "", "no section for the tag v9.9.9"},
		{"neither tag nor snapshot", changelog, "", false, "", "", "has no tag"},
		{"no changelog", "", "", true, "", "", "no section"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := current(tt.changelog, tt.tag, commit, tt.snapshot)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || got.Version != tt.version || got.Text != tt.notes {
				t.Errorf("got %+v, %v, want %s with %q", got, err, tt.version, tt.notes)
			}
		})
	}
}

// The repository's own changelog can be released.
func TestChangelog(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	all := sections(string(data))
	if len(all) == 0 || strings.Count(string(data), "\n## ") != len(all) {
		t.Fatalf("%d sections; each must be `## Unreleased` or `## 1.2.3 - 2026-11-29`", len(all))
	}
	for _, s := range all {
		if !strings.HasPrefix(s.Text, "### Upgrading") {
			t.Errorf("section %q does not start with the steps of an upgrade", s.Version)
		}
	}
}
