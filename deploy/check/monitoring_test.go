package check

import (
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"sigs.k8s.io/yaml"
)

// mounted returns the file of the repository that a service has at a place.
func mounted(t *testing.T, s types.ServiceConfig, at string) string {
	t.Helper()
	for _, v := range s.Volumes {
		if rest, below := strings.CutPrefix(at, v.Target); below {
			return v.Source + rest
		}
	}
	t.Fatalf("%s has nothing at %s", s.Name, at)
	return ""
}

// parse reads a YAML file strictly.
func parse(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.UnmarshalStrict(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// argument is the value of a service's flag.
func argument(s types.ServiceConfig, flag string) string {
	for _, a := range s.Command {
		if value, is := strings.CutPrefix(a, flag+"="); is {
			return value
		}
	}
	return ""
}

// Prometheus finds each role at its operations port, and the rules where they are mounted.
func TestPrometheusSettings(t *testing.T) {
	t.Parallel()
	p, err := project(t, secrets(t))
	if err != nil {
		t.Fatal(err)
	}
	s := p.Services["prometheus"]
	var settings struct {
		Global struct {
			Scrape   string `json:"scrape_interval"`
			Evaluate string `json:"evaluation_interval"`
		} `json:"global"`
		Rules  []string `json:"rule_files"`
		Scrape []struct {
			Job string `json:"job_name"`
			DNS []struct {
				Names   []string `json:"names"`
				Type    string   `json:"type"`
				Port    int      `json:"port"`
				Refresh string   `json:"refresh_interval"`
			} `json:"dns_sd_configs"`
			Relabel []struct {
				From []string `json:"source_labels"`
				To   string   `json:"target_label"`
			} `json:"relabel_configs"`
		} `json:"scrape_configs"`
	}
	file := mounted(t, s, argument(s, "--config.file"))
	parse(t, file, &settings)
	for _, rules := range settings.Rules {
		if _, err := os.Stat(mounted(t, s, rules)); err != nil {
			t.Error(err)
		}
	}
	for _, job := range settings.Scrape {
		for _, dns := range job.DNS {
			for _, role := range dns.Names {
				if p.Services[role].Command == nil || dns.Port != 9464 || dns.Type != "A" {
					t.Errorf("there is no service %s with port %d", role, dns.Port)
				}
			}
			if want := []string{"api", "ingest", "fanout", "deliver"}; !slices.Equal(dns.Names, want) {
				t.Errorf("job %s scrapes %v, want %v", job.Job, dns.Names, want)
			}
		}
	}
	if _, err := exec.LookPath("promtool"); err == nil { // Debian's prometheus has it.
		output(t, "promtool", "check", "config", "--syntax-only", file)
	}
}

// Grafana gets its data source and its dashboard from the files that it reads at its start.
func TestGrafanaSettings(t *testing.T) {
	t.Parallel()
	p, err := project(t, secrets(t))
	if err != nil {
		t.Fatal(err)
	}
	s := p.Services["grafana"]
	var sources struct {
		APIVersion  int `json:"apiVersion"`
		Datasources []struct {
			Name      string `json:"name"`
			UID       string `json:"uid"`
			Type      string `json:"type"`
			Access    string `json:"access"`
			URL       string `json:"url"`
			IsDefault bool   `json:"isDefault"`
		} `json:"datasources"`
	}
	parse(t, mounted(t, s, "/etc/grafana/provisioning/datasources/prometheus.yml"), &sources)
	if one := sources.Datasources[0]; one.Type != "prometheus" || one.URL != "http://prometheus:9090" || !one.IsDefault || p.Services["prometheus"].Image == "" {
		t.Errorf("data source %+v", one)
	}
	var dashboards struct {
		APIVersion int `json:"apiVersion"`
		Providers  []struct {
			Name    string            `json:"name"`
			Folder  string            `json:"folder"`
			Type    string            `json:"type"`
			Options map[string]string `json:"options"`
		} `json:"providers"`
	}
	parse(t, mounted(t, s, "/etc/grafana/provisioning/dashboards/fanfare.yml"), &dashboards)
	if file := mounted(t, s, path.Join(dashboards.Providers[0].Options["path"], "fanfare.json")); !strings.HasSuffix(file, "deploy/grafana/dashboard.json") {
		t.Errorf("the dashboard is %s", file)
	}
}

// The collector's pipeline names components that exist, and listens where the settings of compose send traces.
func TestCollectorSettings(t *testing.T) {
	t.Parallel()
	p, err := project(t, secrets(t))
	if err != nil {
		t.Fatal(err)
	}
	s := p.Services["collector"]
	var settings struct {
		Receivers map[string]struct {
			Protocols map[string]struct{ Endpoint string }
		}
		Processors map[string]map[string]any
		Exporters  map[string]map[string]any
		Extensions map[string]map[string]any
		Service    struct {
			Extensions []string
			Pipelines  map[string]struct{ Receivers, Processors, Exporters []string }
		}
	}
	parse(t, mounted(t, s, argument(s, "--config")), &settings)
	if settings.Receivers["otlp"].Protocols["http"].Endpoint != "0.0.0.0:4318" || !strings.Contains(read(t, "deploy/compose.env"), "http://collector:4318") {
		t.Errorf("receivers %+v", settings.Receivers)
	}
	traces := settings.Service.Pipelines["traces"]
	for name := range strings.SplitSeq(strings.Join(slices.Concat(traces.Receivers, traces.Processors, traces.Exporters, settings.Service.Extensions), " "), " ") {
		_, receiver := settings.Receivers[name]
		_, processor := settings.Processors[name]
		_, exporter := settings.Exporters[name]
		_, extension := settings.Extensions[name]
		if !receiver && !processor && !exporter && !extension {
			t.Errorf("there is no component %q", name)
		}
	}
}

// Each file below deploy is known to a test, which parses, renders or runs it.
func TestEveryFileIsChecked(t *testing.T) {
	t.Parallel()
	known := map[string]string{
		"Dockerfile": "cmd/fanfare TestVariablesNamedExist", "compose.env": "TestComposeVariables", "nats.conf": "TestComposeRuns", "nats-cluster.conf": "TestNATSCluster",
		"topology.json": "cmd/fanfare", "deploy.go": "compiled", "demo/": "cmd/fanfare", "postgres/init.sh": "TestComposeRuns",
		"prometheus/": "TestPrometheusSettings, cmd/fanfare", "grafana/": "TestGrafanaSettings, cmd/fanfare", "otel/": "TestCollectorSettings",
		"helm/fanfare/": "TestChart", "release/": "its own tests", "check/": "itself", "clients/": "its own tests",
	}
	err := fs.WalkDir(os.DirFS(filepath.Join(root, "deploy")), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		for prefix := range known {
			if strings.HasPrefix(name, prefix) {
				return nil
			}
		}
		t.Errorf("no test reads deploy/%s: add one, and name it here", name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
