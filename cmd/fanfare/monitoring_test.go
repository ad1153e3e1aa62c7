package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.yaml.in/yaml/v3"

	"github.com/fanfarehq/fanfare/deliver"
)

// metricNames are the metrics in the sources of the stages: those that a running process registers.
func metricNames(t *testing.T) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	registry := prometheus.NewRegistry()
	if _, err := deliver.NewMetrics(registry); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		names[f.GetName()] = true
		if f.GetType() == dto.MetricType_HISTOGRAM {
			names[f.GetName()+"_bucket"] = true
		}
	}
	// Those of the other stages are made with their workers; their names stand in one file each.
	for _, file := range []string{"../../ingest/metrics.go", "../../fanout/metrics.go", "../../fanout/audit/reconcile.go"} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile(`New(\w+)\(prometheus\.\w+Opts\{\s*Name: "(fanfare_\w+)"`).FindAllStringSubmatch(string(content), -1) {
			names[found[2]] = true
			if strings.HasPrefix(found[1], "Histogram") {
				names[found[2]+"_bucket"] = true
			}
		}
	}
	return names
}

// Alerts and dashboard name metrics that exist, and can be read.
func TestMonitoringNamesMetricsThatExist(t *testing.T) {
	t.Parallel()
	names := metricNames(t)
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	exprs := make(map[string]string)
	read := func(file string, into any, unmarshal func([]byte, any) error) {
		content, err := os.ReadFile(file)
		if err == nil {
			err = unmarshal(content, into)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	read("../../deploy/prometheus/rules.yml", &rules, yaml.Unmarshal)
	read("../../deploy/grafana/dashboard.json", &dashboard, json.Unmarshal)
	for _, group := range rules.Groups {
		for _, r := range group.Rules {
			exprs["alert "+r.Alert] = r.Expr
			if r.Alert == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
				t.Errorf("alert %q says not how severe it is or what it means", r.Alert)
			}
		}
	}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			exprs["panel "+p.Title+": "+target.Expr] = target.Expr
		}
	}
	handbook := documents(t)["docs/operations.md"]
	for _, group := range rules.Groups {
		for _, r := range group.Rules {
			if !strings.Contains(handbook, "\n| `"+r.Alert+"` |") {
				t.Errorf("docs/operations.md does not say what to do about alert %s", r.Alert)
			}
		}
	}
	if len(exprs) < 20 {
		t.Errorf("only %d expressions were found", len(exprs))
	}
	for where, expr := range exprs {
		found := regexp.MustCompile(`fanfare_\w+`).FindAllString(expr, -1)
		if len(found) == 0 {
			t.Errorf("%s has no metric of ours: %s", where, expr)
		}
		for _, name := range found {
			if !names[name] {
				t.Errorf("%s: there is no metric %s", where, name)
			}
		}
		if strings.Count(expr, "(") != strings.Count(expr, ")") || strings.Count(expr, "{") != strings.Count(expr, "}") {
			t.Errorf("%s: brackets do not match: %s", where, expr)
		}
	}
}
