package check

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// project loads the compose file as `docker compose` does, with every profile.
func project(t *testing.T, env map[string]string) (*types.Project, error) {
	t.Helper()
	var lines []string
	for name, value := range env {
		lines = append(lines, name+"="+value)
	}
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")},
		cli.WithEnv(lines), cli.WithProfiles([]string{"*"}), cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	return options.LoadProject(t.Context())
}

// secrets are values for each variable of compose.env.
func secrets(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy/compose.env"))
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(\w+)=$`).FindAllStringSubmatch(string(text), -1) {
		env[m[1]] = ""
		if strings.HasSuffix(m[1], "_PASSWORD") {
			env[m[1]] = "0a1b2c3d4e5f" + strings.ToLower(m[1][:4])
		}
	}
	env["FANFARE_ADMIN_KEY"] = "an-admin-key-of-the-test-alone"
	env["FANFARE_SECRET_KEYS"] = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	env["FANFARE_ALLOW_PRIVATE_CIDRS"] = "127.0.0.0/8"
	return env
}

// The compose file fits the specification, and its services can be scaled and hold no more rights than they need.
func TestComposeFile(t *testing.T) {
	t.Parallel()
	p, err := project(t, secrets(t))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"api", "collector", "deliver", "fanout", "grafana", "ingest", "load", "nats", "postgres", "prometheus", "receiver", "topology",
	}
	if got := slices.Sorted(maps.Keys(p.Services)); !slices.Equal(got, want) {
		t.Fatalf("services: got %v, want %v", got, want)
	}
	for name, s := range p.Services {
		if s.ContainerName != "" {
			t.Errorf("%s has a name of its own, and so cannot be scaled", name)
		}
		if !strings.Contains(s.Image, ":") || strings.HasSuffix(s.Image, ":latest") {
			t.Errorf("%s runs %s, which names no version", name, s.Image)
		}
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil || !v.ReadOnly {
				t.Errorf("%s mounts %s: read-only %v, %v", name, v.Source, v.ReadOnly, err)
			}
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s is open to other machines: %+v", name, port)
			}
		}
		if strings.HasPrefix(s.Image, "fanfare") && (!s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.SecurityOpt) == 0) {
			t.Errorf("%s has rights that it does not need", name)
		}
	}
	for _, scaled := range []string{"fanout", "deliver"} {
		if s := p.Services[scaled]; len(s.Ports)+len(s.Volumes) > 0 {
			t.Errorf("%s cannot be scaled: ports %v, volumes %v", scaled, s.Ports, s.Volumes)
		}
	}
}

// Without a secret nothing starts, and the message names it.
func TestComposeNeedsSecrets(t *testing.T) {
	t.Parallel()
	for name := range secrets(t) {
		if !strings.HasSuffix(name, "_PASSWORD") && name != "FANFARE_ADMIN_KEY" && name != "FANFARE_SECRET_KEYS" {
			continue
		}
		env := secrets(t)
		delete(env, name)
		if _, err := project(t, env); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: got %v", name, err)
		}
	}
}

// compose.env lists every variable of the compose file.
func TestComposeVariables(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	known := secrets(t)
	for _, m := range regexp.MustCompile(`\$\{(\w+)`).FindAllStringSubmatch(string(text), -1) {
		if _, ok := known[m[1]]; !ok {
			t.Errorf("deploy/compose.env lacks %s", m[1])
		}
	}
}
