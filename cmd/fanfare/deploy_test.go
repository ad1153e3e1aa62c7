package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// What the compose file and the image set and start exists.
func TestComposeFits(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var compose struct {
		Services map[string]struct {
			Image       string            `yaml:"image"`
			Command     []string          `yaml:"command"`
			Environment map[string]string `yaml:"environment"`
		} `yaml:"services"`
	}
	if err := yaml.Unmarshal(content, &compose); err != nil {
		t.Fatal(err)
	}
	var roles []string
	for name, s := range compose.Services {
		if !strings.HasPrefix(s.Image, "fanfare") {
			continue
		}
		roles = append(roles, name)
		parser, err := kong.New(&cli{}, kong.Name("fanfare"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(s.Command); err != nil {
			t.Errorf("service %s runs fanfare %v: %v", name, s.Command, err)
		}
		for variable := range s.Environment {
			if strings.HasPrefix(variable, envPrefix) && !knownVariable(variable) {
				t.Errorf("service %s sets %s, which does not exist", name, variable)
			}
		}
	}
	slices.Sort(roles)
	if want := []string{"api", "deliver", "fanout", "ingest", "load", "receiver", "topology"}; !slices.Equal(roles, want) {
		t.Errorf("services of fanfare: got %v, want %v", roles, want)
	}
}

// The variables that the documents and files name exist.
func TestVariablesNamedExist(t *testing.T) {
	t.Parallel()
	// Decisions are left out: they also name variables of the past.
	guides, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(guides) == 0 {
		t.Fatalf("docs: %v, %v", guides, err)
	}
	for i, guide := range guides {
		guides[i] = "docs/" + filepath.Base(guide)
	}
	for _, file := range append(guides, "README.md", "docker-compose.yml", "deploy/Dockerfile", "deploy/compose.env", "deploy/nats.conf") {
		content, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\bFANFARE_[A-Z0-9_]*[A-Z0-9]\b`).FindAllString(string(content), -1) {
			if !knownVariable(name) {
				t.Errorf("%s names %s, which does not exist", file, name)
			}
		}
	}
}

func knownVariable(name string) bool {
	return slices.ContainsFunc(describe(newSettings().sections()), func(s setting) bool { return s.Name == name })
}
