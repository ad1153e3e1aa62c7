package check

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// targets are those of the Makefile.
func targets(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z]+):`).FindAllStringSubmatch(read(t, "Makefile"), -1) {
		known[m[1]] = true
	}
	return known
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var made = regexp.MustCompile(`\bmake ([a-z]+)`)

// The workflows are sound and call targets that exist; each action has a version.
func TestWorkflows(t *testing.T) {
	t.Parallel()
	known := targets(t)
	for _, file := range []string{"test.yml", "release.yml"} {
		var flow struct {
			Name        string
			On          map[string]any
			Permissions map[string]string
			Jobs        map[string]struct {
				RunsOn  string `json:"runs-on"`
				Timeout int    `json:"timeout-minutes"`
				Steps   []struct{ Name, Uses, Run string }
			}
		}
		text := strings.Replace(read(t, ".github/workflows/"+file), "\non:", "\n\"on\":", 1) // YAML 1.1 takes on for true.
		if err := yaml.Unmarshal([]byte(text), &flow); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if flow.Name == "" || len(flow.On) == 0 || flow.Permissions["contents"] != "read" || len(flow.Jobs) == 0 {
			t.Errorf("%s: %+v", file, flow)
		}
		calls := 0
		for name, job := range flow.Jobs {
			if job.RunsOn == "" || job.Timeout == 0 {
				t.Errorf("%s: %s has no machine or no time", file, name)
			}
			for _, step := range job.Steps {
				if (step.Uses == "") == (step.Run == "") || (step.Uses != "" && !strings.Contains(step.Uses, "@")) {
					t.Errorf("%s: step %+v", file, step)
				}
				for _, m := range made.FindAllStringSubmatch(step.Run, -1) {
					if calls++; !known[m[1]] {
						t.Errorf("%s runs make %s, which does not exist", file, m[1])
					}
				}
			}
		}
		if calls < 2 {
			t.Errorf("%s: %d calls of make", file, calls)
		}
	}
}

// The documents of the root name targets and files that exist.
func TestRootDocuments(t *testing.T) {
	t.Parallel()
	known := targets(t)
	for _, file := range []string{"CONTRIBUTING.md", "SECURITY.md"} {
		text := read(t, file)
		for _, m := range regexp.MustCompile("`[^`]*`|(?m)^make .*$").FindAllString(text, -1) {
			for _, target := range made.FindAllStringSubmatch(m, -1) {
				if !known[target[1]] {
					t.Errorf("%s names make %s, which does not exist", file, target[1])
				}
			}
		}
		for _, m := range regexp.MustCompile(`\]\(([^)#:\s]+)`).FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil && !strings.HasPrefix(m[1], "http") {
				t.Errorf("%s links to %s: %v", file, m[1], err)
			}
		}
	}
}

// block is one of docs/operations.md that is marked <!-- handbook: name -->.
func block(t *testing.T, name string) string {
	t.Helper()
	found := regexp.MustCompile("(?s)<!-- handbook: " + name + " -->\n```\\w+\n(.*?)```").FindStringSubmatch(read(t, "docs/operations.md"))
	if found == nil {
		t.Fatalf("docs/operations.md has no block %s", name)
	}
	return found[1]
}

// A test runs each block of the handbook.
func TestHandbookBlocks(t *testing.T) {
	t.Parallel()
	for _, m := range regexp.MustCompile(`<!-- handbook: (\w+) -->`).FindAllStringSubmatch(read(t, "docs/operations.md"), -1) {
		if m[1] != "values" && m[1] != "backup" && m[1] != "restore" {
			t.Errorf("no test runs the block %s", m[1])
		}
	}
}

// The handbook's values of the chart make manifests that fit.
func TestHandbookValues(t *testing.T) {
	t.Parallel()
	got, err := render(t, block(t, "values"))
	if err != nil {
		t.Fatal(err)
	}
	for id, m := range got {
		if err := fits(m); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	for _, want := range []string{"ScaledObject shop-fanfare-deliver", "HorizontalPodAutoscaler shop-fanfare-api", "ServiceMonitor shop-fanfare"} {
		if got[want] == nil {
			t.Errorf("there is no %s", want)
		}
	}
}
