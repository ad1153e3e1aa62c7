// Command schemas writes testdata/schemas.json anew: the JSON Schemas of Kubernetes, KEDA and the Prometheus operator for the kinds
// that the chart makes, without descriptions, and closed, so that a field that does not exist is an error.
//
//	go run ./schemas
//
// The sources are the published modules, from the Go module proxy.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	kubernetes = "k8s.io/kubernetes@v1.37.2"
	keda       = "github.com/kedacore/keda/v2@v2.21.0"
	operator   = "github.com/prometheus-operator/prometheus-operator@v0.90.1"
)

// kinds are those of Kubernetes itself, by the file that describes their group.
var kinds = map[string][]string{
	"api__v1":                     {"Secret", "ConfigMap", "Service", "ServiceAccount"},
	"apis__apps__v1":              {"Deployment"},
	"apis__batch__v1":             {"Job"},
	"apis__policy__v1":            {"PodDisruptionBudget"},
	"apis__autoscaling__v2":       {"HorizontalPodAutoscaler"},
	"apis__networking.k8s.io__v1": {"NetworkPolicy", "Ingress"},
}

// resources are custom ones, by the module and the file that define them.
var resources = map[string][]string{
	keda:     {"config/crd/bases/keda.sh_scaledobjects.yaml", "config/crd/bases/keda.sh_triggerauthentications.yaml"},
	operator: {"example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml", "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"},
}

func main() {
	if err := write("testdata/schemas.json"); err != nil {
		fmt.Fprintln(os.Stderr, "schemas:", err)
		os.Exit(1)
	}
}

type object = map[string]any

func write(path string) error {
	all := object{}  // apiVersion/Kind -> schema
	defs := object{} // the definitions that they refer to
	if err := builtIn(all, defs); err != nil {
		return err
	}
	if err := custom(all); err != nil {
		return err
	}
	text, err := json.Marshal(object{"kinds": all, "$defs": defs})
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// builtIn takes Kubernetes's own kinds, with all that they refer to.
func builtIn(all, defs object) error {
	dir, err := module(kubernetes)
	if err != nil {
		return err
	}
	for file, names := range kinds {
		text, err := os.ReadFile(filepath.Join(dir, "api/openapi-spec/v3", file+"_openapi.json"))
		if err != nil {
			return err
		}
		var api struct {
			Components struct{ Schemas map[string]object }
		}
		if err := json.Unmarshal(text, &api); err != nil {
			return err
		}
		for name, schema := range api.Components.Schemas {
			for _, kind := range names {
				if group, version, is := identity(schema, kind); is {
					key := strings.TrimPrefix(group+"/"+version+"/"+kind, "/")
					all[key] = object{"$ref": "#/$defs/" + name}
					take(name, api.Components.Schemas, defs)
				}
			}
		}
	}
	return nil
}

// identity reports whether the schema is that of the kind.
func identity(schema object, kind string) (group, version string, is bool) {
	list, _ := schema["x-kubernetes-group-version-kind"].([]any)
	if len(list) != 1 { // Those of every kind, such as DeleteOptions, have many.
		return "", "", false
	}
	one, _ := list[0].(object)
	group, _ = one["group"].(string)
	version, _ = one["version"].(string)
	return group, version, one["kind"] == kind
}

// take adds a definition and those below it.
func take(name string, from map[string]object, defs object) {
	if defs[name] != nil {
		return
	}
	defs[name] = object{} // before its parts: a definition may contain itself
	defs[name] = closed(from[name], func(ref string) string {
		below := strings.TrimPrefix(ref, "#/components/schemas/")
		take(below, from, defs)
		return "#/$defs/" + below
	})
}

// custom takes the schemas of custom resources.
func custom(all object) error {
	for from, files := range resources {
		dir, err := module(from)
		if err != nil {
			return err
		}
		for _, file := range files {
			text, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				return err
			}
			var crd struct {
				Spec struct {
					Group    string
					Names    struct{ Kind string }
					Versions []struct {
						Name   string
						Schema struct{ OpenAPIV3Schema object }
					}
				}
			}
			if err := yaml.Unmarshal(text, &crd); err != nil {
				return err
			}
			for _, v := range crd.Spec.Versions {
				schema, _ := closed(v.Schema.OpenAPIV3Schema, nil).(object)
				schema["properties"].(object)["metadata"] = object{"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
				all[crd.Spec.Group+"/"+v.Name+"/"+crd.Spec.Names.Kind] = schema
			}
		}
	}
	return nil
}

// closed copies a schema: without words, with no properties beyond those that it names, and with references as ref says.
func closed(schema any, ref func(string) string) any {
	switch s := schema.(type) {
	case []any:
		out := make([]any, len(s))
		for i := range s {
			out[i] = closed(s[i], ref)
		}
		return out
	case object:
		out := object{}
		for name, value := range s {
			switch {
			case name == "properties": // Its names are fields, not words of the schema.
				fields := object{}
				for field, of := range value.(object) {
					fields[field] = closed(of, ref)
				}
				out[name] = fields
			case name == "$ref" && ref != nil:
				out[name] = ref(value.(string))
			case name == "description" || name == "default" || name == "format" || strings.HasPrefix(name, "x-"):
			default:
				out[name] = closed(value, ref)
			}
		}
		_, named := out["properties"]
		_, more := out["additionalProperties"]
		if named && !more && s["x-kubernetes-preserve-unknown-fields"] != true {
			out["additionalProperties"] = false
		}
		if s["x-kubernetes-int-or-string"] == true {
			delete(out, "type")
			out["anyOf"] = []any{object{"type": "integer"}, object{"type": "string"}}
		}
		return out
	}
	return schema
}

// module returns the folder of a module in the cache.
func module(name string) (string, error) {
	out, err := exec.Command("go", "mod", "download", "-json", name).Output()
	if err != nil {
		return "", fmt.Errorf("download %s: %w", name, err)
	}
	var got struct{ Dir string }
	return got.Dir, json.Unmarshal(out, &got)
}
