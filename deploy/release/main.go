package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	root := flag.String("root", "../..", "the repository")
	out := flag.String("out", "../../dist", "where the artifacts go; an earlier release there is replaced")
	snapshot := flag.Bool("snapshot", false, "build a commit that is no release")
	only := flag.String("only", "", "platforms to build, such as linux/amd64,darwin/arm64; all by default")
	to := flag.String("push", "", "push the image of an earlier run to this registry/name:tag, and build nothing")
	flag.Parse()
	if *to != "" {
		if err := push(ctx, filepath.Join(*out, "image"), *to); err != nil {
			fmt.Fprintln(os.Stderr, "release:", err)
			os.Exit(1)
		}
		return
	}
	if err := release(ctx, *root, *out, *only, *snapshot); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// release makes everything.
func release(ctx context.Context, root, out, only string, snapshot bool) error {
	of, err := describe(ctx, root, snapshot)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	var built []binary
	for _, p := range platforms {
		if only != "" && !strings.Contains(","+only+",", ","+p.String()+",") {
			continue
		}
		fmt.Println("build", p)
		b, err := compile(ctx, of, p, filepath.Join(out, "bin", p.OS+"_"+p.Arch))
		if err != nil {
			return err
		}
		built = append(built, b)
	}
	if len(built) == 0 {
		return fmt.Errorf("-only %s names no platform of %v", only, platforms)
	}
	return pack(of, built, out)
}

// notes is the text of a release, which is no artifact.
const notes = "NOTES.md"

// pack makes the artifacts of binaries.
func pack(of source, built []binary, out string) error {
	archives := map[platform]string{}
	for _, b := range built {
		name, err := archive(of, b, out)
		if err != nil {
			return err
		}
		archives[b.platform] = name
		if err := bill(of, b, filepath.Join(out, strings.TrimSuffix(strings.TrimSuffix(name, ".tar.gz"), ".zip")+".cdx.json")); err != nil {
			return err
		}
		if b.OS == "linux" {
			if err := packages(of, b, out); err != nil {
				return err
			}
		}
	}
	if err := image(of, built, filepath.Join(out, "image")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, notes), []byte(of.Notes), 0o644); err != nil {
		return err
	}
	sums, err := checksums(out)
	if err != nil {
		return err
	}
	return formula(of, archives, sums, filepath.Join(out, "fanfare.rb"))
}
