package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"sigs.k8s.io/yaml"
)

// manifest is one object of Kubernetes.
type manifest map[string]any

func (m manifest) id() string {
	meta, _ := m["metadata"].(map[string]any)
	return m["kind"].(string) + " " + meta["name"].(string)
}

// at returns the value below names, numbers being places of lists; nil if there is none.
func at(value any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, _ := value.(map[string]any)
			value = m[step]
		case int:
			l, _ := value.([]any)
			if step >= len(l) {
				return nil
			}
			value = l[step]
		}
	}
	return value
}

var theChart = sync.OnceValues(func() (*chart.Chart, error) {
	return loader.Load(filepath.Join(root, "deploy/helm/fanfare"))
})

// render renders the chart as `helm install shop` does, in the order of the ids.
func render(t *testing.T, values string) (map[string]manifest, error) {
	t.Helper()
	c, err := theChart()
	if err != nil {
		t.Fatal(err)
	}
	var given map[string]any
	if err := yaml.Unmarshal([]byte(values), &given); err != nil {
		t.Fatal(err)
	}
	all, err := util.ToRenderValues(c, given, common.ReleaseOptions{Name: "shop", Namespace: "hooks", IsInstall: true}, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return nil, err
	}
	got := map[string]manifest{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		for _, part := range regexp.MustCompile(`(?m)^---\n`).Split(files[name], -1) {
			var m manifest
			if err := yaml.UnmarshalStrict([]byte(part), &m); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, part)
			}
			if m == nil {
				continue
			}
			if got[m.id()] != nil {
				t.Errorf("%s is made twice", m.id())
			}
			got[m.id()] = m
		}
	}
	return got, nil
}

// schemas are those of testdata, compiled when they are asked for.
var schemas = sync.OnceValues(func() (*jsonschema.Compiler, error) {
	text, err := os.ReadFile("testdata/schemas.json")
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	return c, c.AddResource("schemas.json", doc)
})

var compiling sync.Mutex

// fits holds a manifest against the schema of its kind.
func fits(m manifest) error {
	compiling.Lock()
	defer compiling.Unlock()
	c, err := schemas()
	if err != nil {
		return err
	}
	kind := strings.NewReplacer("~", "~0", "/", "~1").Replace(m["apiVersion"].(string) + "/" + m["kind"].(string))
	schema, err := c.Compile("schemas.json#/kinds/" + kind)
	if err != nil {
		return err
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// Each file of values renders, and each manifest fits the schema of its kind.
func TestChart(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/values/*.yaml")
	if err != nil || len(files) < 12 {
		t.Fatalf("%d files of values, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			got := rendered(t, file)
			for id, m := range got {
				if err := fits(m); err != nil {
					t.Errorf("%s: %v", id, err)
				}
				if m["kind"] == "Deployment" || m["kind"] == "Job" {
					holdPod(t, id, at(map[string]any(m), "spec", "template", "spec").(map[string]any))
				}
			}
			// The first line says what the file must lead to.
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(string(text), "\n")
			for want := range strings.SplitSeq(strings.TrimPrefix(first, "# "), ", ") {
				if got[want] == nil {
					t.Errorf("there is no %s in %v", want, slices.Sorted(maps.Keys(got)))
				}
			}
		})
	}
}

func rendered(t *testing.T, file string) map[string]manifest {
	t.Helper()
	values, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := render(t, string(values))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// holdPod checks the rights of a pod: those of the restricted Pod Security Standard, on a read-only root.
func holdPod(t *testing.T, id string, pod map[string]any) {
	t.Helper()
	if at(pod, "securityContext", "runAsNonRoot") != true || at(pod, "securityContext", "seccompProfile", "type") != "RuntimeDefault" ||
		pod["automountServiceAccountToken"] != false {
		t.Errorf("%s has rights that it does not need: %v", id, pod["securityContext"])
	}
	containers, _ := pod["containers"].([]any)
	for _, c := range containers {
		security := at(c, "securityContext")
		if at(security, "allowPrivilegeEscalation") != false || at(security, "readOnlyRootFilesystem") != true ||
			at(security, "capabilities", "drop", 0) != "ALL" || at(c, "resources", "limits", "memory") == nil {
			t.Errorf("%s has rights that it does not need: %v", id, security)
		}
		env, _ := at(c, "env").([]any)
		for _, e := range env {
			if name := at(e, "name").(string); strings.HasSuffix(name, "_URL") && at(e, "value") != nil {
				t.Errorf("%s shows the secret %s", id, name)
			}
		}
	}
}

// The schemas refuse what they should: otherwise the test above would prove nothing.
func TestSchemasRefuse(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(manifest){
		"unknown field": func(m manifest) {
			at(map[string]any(m), "spec", "template", "spec").(map[string]any)["containrs"] = []any{}
		},
		"wrong type":    func(m manifest) { at(map[string]any(m), "spec").(map[string]any)["replicas"] = "two" },
		"missing field": func(m manifest) { delete(at(map[string]any(m), "spec").(map[string]any), "selector") },
	} {
		m := rendered(t, "testdata/values/least.yaml")["Deployment shop-fanfare-api"]
		if err := fits(m); err != nil {
			t.Fatal(err)
		}
		change(m)
		if err := fits(m); err == nil {
			t.Errorf("%s: it fits", name)
		}
	}
}

// Values that cannot work are refused, and the message says what to do.
func TestChartRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, values, want string }{
		{"no secrets", `{}`, "set secrets.existing, or secrets.create.postgresURL"},
		{"users without a secret", `{secrets: {natsPerRole: true}}`, "needs secrets.existing"},
		{"misspelt", `{secrets: {existing: x}, rolse: {}}`, "rolse"},
		{"misspelt below", `{secrets: {existing: x}, roles: {api: {replica: 2}}}`, "replica"},
		{"secret among settings", `{secrets: {existing: x}, settings: {FANFARE_ADMIN_KEY: x}}`, "FANFARE_ADMIN_KEY"},
		{"number among settings", `{secrets: {existing: x}, settings: {FANFARE_STREAM_REPLICAS: 3}}`, "string"},
		{"keda without NATS", `{secrets: {existing: x}, roles: {deliver: {autoscaling: {enabled: true}}}}`, "set keda.natsMonitoring"},
		{"keda for api", `{secrets: {existing: x}, keda: {natsMonitoring: x}, roles: {api: {autoscaling: {enabled: true, type: keda}}}}`, "use hpa"},
		{"max below min", `{secrets: {existing: x}, roles: {api: {autoscaling: {enabled: true, min: 5, max: 3}}}}`, "max is less than min"},
		{"no time to drain", `{secrets: {existing: x}, terminationGracePeriodSeconds: 5}`, "terminationGracePeriodSeconds"},
		{"ingress without a host", `{secrets: {existing: x}, ingress: {enabled: true}}`, "set ingress.host"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := render(t, tt.values); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// Workers reach the world and never the cluster; the API is reached, and reaches its servers alone.
func TestChartNetwork(t *testing.T) {
	t.Parallel()
	got := rendered(t, "testdata/values/network.yaml")
	deliver := text(t, got["NetworkPolicy shop-fanfare-deliver"])
	for _, want := range []string{`"cidr":"0.0.0.0/0"`, `"except":["10.0.0.0/8"`, `"169.254.0.0/16"`, `"cidr":"::/0"`, `"fc00::/7"`} {
		if !strings.Contains(deliver, want) {
			t.Errorf("deliver: no %s in %s", want, deliver)
		}
	}
	if strings.Contains(deliver, `"port":"http"`) {
		t.Error("deliver can be called")
	}
	for _, role := range []string{"api", "ingest", "fanout", "topology"} {
		if policy := text(t, got["NetworkPolicy shop-fanfare-"+role]); strings.Contains(policy, "0.0.0.0/0") {
			t.Errorf("%s reaches the world: %s", role, policy)
		}
	}
	api := got["NetworkPolicy shop-fanfare-api"]
	if from := at(map[string]any(api), "spec", "ingress", 0, "from", 0, "namespaceSelector", "matchLabels", "team"); from != "edge" {
		t.Errorf("api can be called by %v", at(map[string]any(api), "spec", "ingress"))
	}
}

// A lag that cannot be read keeps the processes that there are; scaling down is slow; and KEDA may read what it scales by.
func TestChartScalesByLag(t *testing.T) {
	t.Parallel()
	got := rendered(t, "testdata/values/keda.yaml")
	for role, stream := range map[string]string{"fanout": "EVENTS", "deliver": "TASKS"} {
		scaled := map[string]any(got["ScaledObject shop-fanfare-"+role])
		if fallback := at(scaled, "spec", "fallback", "behavior"); fallback != "currentReplicasIfHigher" {
			t.Errorf("%s: the fallback is %v", role, fallback)
		}
		if seconds := at(scaled, "spec", "advanced", "horizontalPodAutoscalerConfig", "behavior", "scaleDown", "stabilizationWindowSeconds"); fmt.Sprint(seconds) != "300" {
			t.Errorf("%s: it scales down after %v s", role, seconds)
		}
		lag := at(scaled, "spec", "triggers", 0, "metadata").(map[string]any)
		if lag["stream"] != stream || lag["consumer"] != role || lag["lagThreshold"] == "" {
			t.Errorf("%s: it scales by %v", role, lag)
		}
		policy := got["NetworkPolicy shop-fanfare-"+role]
		if !strings.Contains(text(t, policy), `"kubernetes.io/metadata.name":"keda"`) {
			t.Errorf("%s: KEDA may not read its metrics: %v", role, at(map[string]any(policy), "spec", "ingress"))
		}
	}
}

func text(t *testing.T, m manifest) string {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Commands, settings and probes are those of the binary: each role starts, and each setting exists.
func TestChartFitsTheBinary(t *testing.T) {
	t.Parallel()
	path, err := fanfare()
	if err != nil {
		t.Fatal(err)
	}
	known := output(t, path, "config", "--env")
	for _, file := range []string{"testdata/values/settings.yaml", "testdata/values/all.yaml"} {
		for id, m := range rendered(t, file) {
			if m["kind"] != "Deployment" && m["kind"] != "Job" {
				continue
			}
			container := at(map[string]any(m), "spec", "template", "spec", "containers", 0)
			args := []string{"--help"}
			for _, a := range at(container, "args").([]any) {
				args = slices.Insert(args, len(args)-1, a.(string))
			}
			output(t, path, args...)
			for _, e := range at(container, "env").([]any) {
				if name := at(e, "name").(string); strings.HasPrefix(name, "FANFARE_") && !strings.Contains(known, name+"=") {
					t.Errorf("%s sets %s, which does not exist", id, name)
				}
			}
		}
	}
}

// The rules and the dashboard of the chart are those of deploy.
func TestChartMonitoring(t *testing.T) {
	t.Parallel()
	got := rendered(t, "testdata/values/monitoring.yaml")
	rules, err := os.ReadFile(filepath.Join(root, "deploy/prometheus/rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]any
	if err := yaml.Unmarshal(rules, &want); err != nil {
		t.Fatal(err)
	}
	if text(t, manifest(want)) != text(t, manifest(at(map[string]any(got["PrometheusRule shop-fanfare"]), "spec").(map[string]any))) {
		t.Error("the rules are others")
	}
	dashboard, err := os.ReadFile(filepath.Join(root, "deploy/grafana/dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	if at(map[string]any(got["ConfigMap shop-fanfare-dashboard"]), "data", "fanfare.json") != string(dashboard) {
		t.Error("the dashboard is another")
	}
}
