package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// rule is an alert of deploy/prometheus/rules.yml.
type rule struct {
	Alert, Expr string
	Labels      map[string]string
	Annotations map[string]string
}

func readRules(t *testing.T) []rule {
	t.Helper()
	content, err := os.ReadFile("../../deploy/prometheus/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal(content, &rules); err != nil {
		t.Fatal(err)
	}
	return rules.Groups[0].Rules
}

// expressions are those of the alerts and of the dashboard, by where they stand.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, r := range readRules(t) {
		all["alert "+r.Alert] = r.Expr
	}
	content, err := os.ReadFile("../../deploy/grafana/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(content, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			all["panel "+p.Title+": "+target.Expr] = target.Expr
		}
	}
	return all
}

// Alerts and dashboard name series of a process that has just started and has done nothing: a series that is born with its first
// count hides that count from every rate.
func TestMonitoringSeriesExistFromTheStart(t *testing.T) {
	t.Parallel()
	_, at := startAll(t, dataDir(t))
	resp, err := http.Get(at.Ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	metrics := string(content)
	all := expressions(t)
	if len(all) < 40 {
		t.Errorf("only %d expressions were found", len(all))
	}
	for where, expr := range all {
		found := regexp.MustCompile(`\b(?:fanfare|go_sql)_\w+`).FindAllString(expr, -1)
		if len(found) == 0 && expr != `up{job=~".*fanfare.*"} == 0` {
			t.Errorf("%s has no metric of ours: %s", where, expr)
		}
		for _, name := range found {
			if !strings.Contains(metrics, "\n"+name+"{") && !strings.Contains(metrics, "\n"+name+" ") {
				t.Errorf("%s: /metrics has no series of %s", where, name)
			}
		}
	}
}

// Each alert fires for what it is for, and for nothing else: promtool runs the tests of the rules.
func TestRules(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Fatal("the test needs promtool: apt-get install prometheus")
	}
	cmd := exec.CommandContext(t.Context(), "promtool", "test", "rules", "rules_test.yml")
	cmd.Dir = "../../deploy/prometheus"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool test rules: %v\n%s", err, out)
	}
	tests, err := os.ReadFile("../../deploy/prometheus/rules_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	guide, err := os.ReadFile("../../docs/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range readRules(t) {
		if r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
			t.Errorf("alert %s lacks its severity or its summary", r.Alert)
		}
		for _, is := range []string{" fires\n", " is quiet\n"} {
			if !strings.Contains(string(tests), "name: "+r.Alert+is) {
				t.Errorf("rules_test.yml lacks the test %s%s", r.Alert, strings.TrimSpace(is))
			}
		}
		if !strings.Contains(string(guide), "\n## "+r.Alert+"\n") {
			t.Errorf("docs/alerts.md lacks the chapter %s", r.Alert)
		}
	}
}
