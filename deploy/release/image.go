package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"io"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// nonroot is the user of the image, as in Google's distroless images.
const nonroot = 65532

// image writes an OCI layout with an image for each Linux binary. It has no base image: the file system is the binary, the
// certificates of the public authorities, a user, and two folders that this user may write to.
func image(of source, built []binary, dir string) error {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, b := range built {
		if b.OS != "linux" {
			continue
		}
		one, err := imageOf(of, b)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: one, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: b.OS, Architecture: b.Arch}},
		})
	}
	// The layout has one entry, the multi-platform image, under the release's name: so tools such as skopeo and crane push all of it.
	path, err := layout.Write(dir, mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	if err != nil {
		return err
	}
	return path.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": of.Version}))
}

// imageOf makes the image of one platform.
func imageOf(of source, b binary) (v1.Image, error) {
	config := &v1.ConfigFile{
		OS: b.OS, Architecture: b.Arch, Created: v1.Time{Time: of.Date},
		Config: v1.Config{
			User: "65532:65532", WorkingDir: "/data", Entrypoint: []string{"/fanfare"}, Cmd: []string{"--help"}, StopSignal: "SIGTERM",
			Env: []string{
				"PATH=/", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
				"FANFARE_ADDR=0.0.0.0:8080", "FANFARE_OPS_ADDR=0.0.0.0:9464", "FANFARE_DATA_DIR=/data", "FANFARE_LOG_FORMAT=json",
			},
			ExposedPorts: map[string]struct{}{"8080/tcp": {}, "9464/tcp": {}},
			Labels: map[string]string{
				"org.opencontainers.image.title": "fanfare", "org.opencontainers.image.version": of.Version,
				"org.opencontainers.image.revision": of.Commit, "org.opencontainers.image.created": of.Date.Format(time.RFC3339),
				"org.opencontainers.image.source": "https://github.com/fanfarehq/fanfare", "org.opencontainers.image.licenses": "Apache-2.0",
			},
		},
	}
	one, err := mutate.ConfigFile(mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1), config)
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(b.Path)
	if err != nil {
		return nil, err
	}
	// Two layers: the first changes only with the certificates.
	for i, files := range [][]entry{system(), {{"fanfare", 0o755, program}}} {
		data, err := layerOf(files, i == 0, of.Date)
		if err != nil {
			return nil, err
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
			tarball.WithMediaType(types.OCILayer))
		if err != nil {
			return nil, err
		}
		comment := []string{"certificates and users", "fanfare " + of.Version}[i]
		one, err = mutate.Append(one, mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: of.Date}, CreatedBy: comment}})
		if err != nil {
			return nil, err
		}
	}
	return one, nil
}

// system is the file system beside the binary.
func system() []entry {
	var roots bytes.Buffer
	for root := range bundle.Roots() {
		// A root with a constraint is trusted only for some certificates, which a file cannot say.
		if root.Constraint == nil {
			_ = pem.Encode(&roots, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // A buffer takes everything.
		}
	}
	return []entry{
		{"etc/passwd", 0o644, []byte("root:x:0:0:root:/:/sbin/nologin\nfanfare:x:65532:65532:fanfare:/data:/sbin/nologin\n")},
		{"etc/group", 0o644, []byte("root:x:0:\nfanfare:x:65532:\n")},
		{"etc/nsswitch.conf", 0o644, []byte("hosts: files dns\n")},
		{"etc/ssl/certs/ca-certificates.crt", 0o644, roots.Bytes()},
	}
}

// layerOf makes a layer's tar, in the first layer with the folders.
func layerOf(entries []entry, first bool, at time.Time) ([]byte, error) {
	var data bytes.Buffer
	t := tar.NewWriter(&data)
	write := func(h tar.Header, content []byte) error {
		h.ModTime, h.Size, h.Format = at, int64(len(content)), tar.FormatPAX
		if err := t.WriteHeader(&h); err != nil {
			return err
		}
		_, err := t.Write(content)
		return err
	}
	if first {
		for _, folder := range []tar.Header{
			{Name: "etc/", Mode: 0o755}, {Name: "etc/ssl/", Mode: 0o755}, {Name: "etc/ssl/certs/", Mode: 0o755},
			{Name: "data/", Mode: 0o750, Uid: nonroot, Gid: nonroot}, {Name: "tmp/", Mode: 0o1777},
		} {
			folder.Typeflag = tar.TypeDir
			if err := write(folder, nil); err != nil {
				return nil, err
			}
		}
	}
	for _, e := range entries {
		if err := write(tar.Header{Typeflag: tar.TypeReg, Name: e.Name, Mode: int64(e.Mode)}, e.Data); err != nil {
			return nil, err
		}
	}
	return data.Bytes(), t.Close()
}
