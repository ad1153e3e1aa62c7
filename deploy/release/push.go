package main

import (
	"context"
	"fmt"
	"os"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// push copies the multi-platform image of a layout to a registry. The password or token is the variable TOKEN.
func push(ctx context.Context, dir, to string) error {
	tag, err := name.NewTag(to)
	if err != nil {
		return fmt.Errorf("-push: %w", err)
	}
	outer, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return fmt.Errorf("read the image: %w", err)
	}
	manifest, err := outer.IndexManifest()
	if err != nil {
		return fmt.Errorf("read the image: %w", err)
	}
	if n := len(manifest.Manifests); n != 1 {
		return fmt.Errorf("read the image: %d entries, want 1", n)
	}
	index, err := outer.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		return fmt.Errorf("read the image: %w", err)
	}
	options := []remote.Option{remote.WithContext(ctx)}
	if token := os.Getenv("TOKEN"); token != "" {
		user := os.Getenv("REGISTRY_USER")
		if user == "" {
			user = "token"
		}
		options = append(options, remote.WithAuth(&authn.Basic{Username: user, Password: token}))
	}
	if err := remote.WriteIndex(tag, index, options...); err != nil {
		return fmt.Errorf("push %s: %w", tag, err)
	}
	return nil
}
