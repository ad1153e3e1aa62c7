package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// A Prometheus that scrapes a running process evaluates each alert without an error, and has an answer for each panel, with the
// labels that the panel divides by.
func TestMonitoringOfALivePrometheus(t *testing.T) {
	t.Parallel()
	_, at := startAll(t, dataDir(t))
	prometheus := startPrometheus(t, strings.TrimPrefix(at.Ops, "http://"))
	type rule struct{ Name, Health, LastError string }
	var rules struct{ Groups []struct{ Rules []rule } }
	await(t, "Prometheus evaluated the rules twice", func() bool {
		var two sample
		return prometheus.query("count_over_time(fanfare_build_info[1m]) > 3", &two) && len(two.Result) > 0 &&
			prometheus.get("/api/v1/rules", &rules) && len(rules.Groups) > 0 &&
			!slices.ContainsFunc(rules.Groups[0].Rules, func(r rule) bool { return r.Health == "unknown" })
	})
	if got, want := len(rules.Groups[0].Rules), len(readRules(t)); got != want {
		t.Errorf("%d rules, want %d", got, want)
	}
	for _, r := range rules.Groups[0].Rules {
		if r.Health != "ok" {
			t.Errorf("alert %s: %s %s", r.Name, r.Health, r.LastError)
		}
	}
	by := regexp.MustCompile(`^\w+ by \(([a-z, ]+)\)`)
	for where, expr := range expressions(t) {
		if !strings.HasPrefix(where, "panel ") {
			continue
		}
		var answer sample
		if !prometheus.query(strings.ReplaceAll(expr, "$__rate_interval", "30s"), &answer) {
			t.Errorf("%s: Prometheus refuses it", where)
		}
		if len(answer.Result) == 0 && !strings.Contains(expr, "> 0") {
			t.Errorf("%s: no answer", where)
		}
		labels := by.FindStringSubmatch(expr)
		for _, series := range answer.Result {
			for _, label := range strings.Split(strings.Join(labels[min(1, len(labels)):], ""), ", ") {
				if label != "" && series.Metric[label] == "" {
					t.Errorf("%s: a series without %s: %v", where, label, series.Metric)
				}
			}
		}
	}
}

// sample is Prometheus' answer to a query.
type sample struct {
	Result []struct{ Metric map[string]string }
}

// livePrometheus is the address of one.
type livePrometheus string

// startPrometheus runs Prometheus with our rules over one target.
func startPrometheus(t *testing.T, target string) livePrometheus {
	t.Helper()
	if _, err := exec.LookPath("prometheus"); err != nil {
		t.Fatal("the test needs prometheus: apt-get install prometheus")
	}
	rules, err := filepath.Abs("../../deploy/prometheus/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs: [{job_name: fanfare, static_configs: [{targets: [%q]}]}]
`, rules, target)
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	address := servertest.FreeAddress(t)
	cmd := exec.Command("prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return livePrometheus("http://" + address)
}

func (p livePrometheus) query(expr string, into *sample) bool {
	return p.get("/api/v1/query?query="+url.QueryEscape(expr), into)
}

// get reads the data of an answer, and reports whether there was one.
func (p livePrometheus) get(path string, into any) bool {
	resp, err := http.Get(string(p) + path)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	answer := struct {
		Status string
		Data   any
	}{Data: into}
	return json.NewDecoder(resp.Body).Decode(&answer) == nil && answer.Status == "success"
}
