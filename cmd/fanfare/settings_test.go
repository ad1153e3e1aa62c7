package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// What cannot work is refused at the start, and the message names the variable.
func TestSettingsRefused(t *testing.T) {
	t.Parallel()
	taken := servertest.FreeAddress(t)
	holder := start(t, dataDir(t), nil, "listen", "--addr", taken)
	holder.wait("the port is taken", func() bool { return strings.Contains(holder.out.String(), "Listening") })

	tests := []struct{ variable, value, command string }{
		{"FANFARE_ADDR", taken, "all"},
		{"FANFARE_ADDR", "8080", "all"},
		{"FANFARE_OPS_ADDR", taken, "all"},
		{"FANFARE_NATS_LISTEN", taken, "all"},
		{"FANFARE_NATS_LISTEN", "0.0.0.0:0", "all"},
		{"FANFARE_NATS_LOCAL_PUBLISH", "yes", "all"},
		{"FANFARE_ADMIN_KEY", "too-short", "all"},
		{"FANFARE_SECRET_KEYS", "k1:notbase64", "all"},
		{"FANFARE_ALLOW_PRIVATE_CIDRS", "127.0.0.0/99", "all"},
		{"FANFARE_EVENT_TYPES", "closed", "all"},
		{"FANFARE_EVENTS_MAX_AGE", "a week", "all"},
		{"FANFARE_KEEP_EVENTS", "72h", "all"},
		{"FANFARE_DIALECTS", "leat,hubspot", "all"},
		{"FANFARE_DIALECTS", "off,leat", "api"},
		{"FANFARE_LEAT_EVENT_TYPES", "voucher deleted", "all"},
		{"FANFARE_PASSONA_EVENT_TYPE", "keyword.*", "all"},
		{"FANFARE_BABELFOR_ID_HEADER", "X Id", "all"},
		{"FANFARE_LOG_FORMAT", "xml", "all"},
		{"FANFARE_LOG_LEVEL", "loud", "all"},
		{"FANFARE_POSTGRES_MAX_CONNS", "0", "all"},
		{"FANFARE_POSTGRES_URL", "", "fanout"},
		{"FANFARE_NATS_URL", "", "deliver"},
		{"FANFARE_SECRET_KEYS", "", "api"},
		{"FANFARE_EVENTS_MAX_AGE", "soon", "config"},
	}
	for _, tt := range tests {
		t.Run(tt.command+" "+tt.variable+"="+tt.value, func(t *testing.T) {
			t.Parallel()
			fails(t, exitError, []string{tt.variable + "=" + tt.value}, []string{tt.command}, tt.variable)
		})
	}
}

func TestUsageErrors(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"nosuch"}, {"all", "--nosuch"}, {"topology"}, {"bench", "--seconds", "soon"}} {
		var out, err bytes.Buffer
		if code := run(args, &out, &err); code != exitUsage {
			t.Errorf("fanfare %v: exit code %d, want %d", args, code, exitUsage)
		}
		if !strings.Contains(err.String(), "fanfare:") {
			t.Errorf("fanfare %v printed %q, want a message", args, err.String())
		}
	}
}

// An audit of no time at all would call everything balanced.
func TestAuditRefusesSpan(t *testing.T) {
	t.Parallel()
	var out, err bytes.Buffer
	if code := run([]string{"audit", "--span=-1h"}, &out, &err); code != exitError || !strings.Contains(err.String(), "--span") {
		t.Errorf("exit code %d: %s", code, err.String())
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	var out, err bytes.Buffer
	if code := run([]string{"--help"}, &out, &err); code != exitOK {
		t.Errorf("exit code %d: %s", code, err.String())
	}
	for _, want := range []string{"all", "api", "ingest", "fanout", "deliver", "demo", "bench", "config", "topology", "rekey", "version"} {
		if !strings.Contains(out.String(), "\n  "+want+" ") {
			t.Errorf("help does not list %s:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "bench-receiver") {
		t.Errorf("help shows what is hidden:\n%s", out.String())
	}
}

// The variables that clients and operators count on, with their defaults.
func TestConfigLists(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"FANFARE_ADDR": "127.0.0.1:8080", "FANFARE_OPS_ADDR": "127.0.0.1:9464", "FANFARE_DATA_DIR": "./fanfare-data",
		"FANFARE_NATS_URL": "", "FANFARE_NATS_CREDS": "", "FANFARE_NATS_LISTEN": "127.0.0.1:4222",
		"FANFARE_POSTGRES_URL": "", "FANFARE_ADMIN_KEY": "", "FANFARE_SECRET_KEYS": "", "FANFARE_ALLOW_PRIVATE_CIDRS": "",
		"FANFARE_EVENT_TYPES": "open", "FANFARE_EVENTS_MAX_AGE": "168h", "FANFARE_LOG_FORMAT": "text", "FANFARE_LOG_LEVEL": "info",
		"FANFARE_JWKS_URL": "", "FANFARE_DIALECTS": "", "FANFARE_EGRESS_PROXY": "",
	}
	all := describe(newSettings().sections())
	for _, s := range all {
		if def, ok := want[s.Name]; ok && s.Default != def {
			t.Errorf("%s: default %q, want %q", s.Name, s.Default, def)
		}
		delete(want, s.Name)
		if s.Description == "" {
			t.Errorf("%s has no description", s.Name)
		}
	}
	if len(want) > 0 {
		t.Errorf("not listed: %v", want)
	}
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.Name
	}
	slices.Sort(names)
	if unique := slices.Compact(slices.Clone(names)); len(unique) != len(names) {
		t.Errorf("a variable is listed twice: %v", names)
	}
}

// `fanfare config` shows where a value comes from, and no secret.
func TestConfigHidesSecrets(t *testing.T) {
	t.Parallel()
	env := []string{
		"FANFARE_ADMIN_KEY=s3cret-admin-key-of-24-or-more", "FANFARE_LOG_LEVEL=debug",
		"FANFARE_NATS_URL=nats://user:s3cret@a:4222,nats://s3cret@b:4222", "FANFARE_POSTGRES_URL=postgres://fanfare:s3cret@db/fanfare",
		"FANFARE_EGRESS_PROXY=http://fan:s3cret@proxy:3128",
	}
	for _, flag := range []string{"", "--env", "--json"} {
		args := []string{"config"}
		if flag != "" {
			args = append(args, flag)
		}
		p := start(t, dataDir(t), env, args...)
		if code := p.exitCode(); code != exitOK {
			t.Errorf("config %s: exit code %d", flag, code)
		}
		out := p.out.String()
		if strings.Contains(out, "s3cret") {
			t.Errorf("config %s shows a secret:\n%s", flag, out)
		}
		for _, want := range []string{"FANFARE_LOG_LEVEL", "debug", "@a:4222", "@proxy:3128", "FANFARE_ADMIN_KEY"} {
			if !strings.Contains(out, want) {
				t.Errorf("config %s lacks %q:\n%s", flag, want, out)
			}
		}
		if flag == "--json" && !json.Valid([]byte(out)) {
			t.Errorf("config --json is no JSON:\n%s", out)
		}
	}
}

// What another program's variable is called must not reach us, and what is set to nothing is not set.
func TestEnvironmentIsOurs(t *testing.T) {
	t.Parallel()
	p := start(t, dataDir(t), []string{"LOG_LEVEL=loud", "ADDR=nonsense", "FANFARE_LOG_LEVEL=", "FANFARE_EVENTS_MAX_AGE="}, "config")
	if code := p.exitCode(); code != exitOK {
		t.Errorf("exit code %d: %s", code, p.out)
	}
}

func TestTopologyGolden(t *testing.T) {
	t.Parallel()
	p := start(t, dataDir(t), nil, "topology", "print", "--json")
	if code := p.exitCode(); code != exitOK {
		t.Fatalf("exit code %d: %s", code, p.out)
	}
	want, err := os.ReadFile("../../deploy/topology.json")
	if err != nil {
		t.Fatal(err)
	}
	if p.out.String() != string(want) {
		t.Errorf("deploy/topology.json is not what the code says; run make generate\ngot:\n%s", p.out)
	}
}

// A misspelt variable is named with the setting that it is most like, and refused where the operator asked for that.
func TestUnknownVariables(t *testing.T) {
	t.Parallel()
	misspelt := []string{"FANFARE_POSTGRESS_URL=postgres://db/fanfare", "FANFARE_PORT_8080_TCP=tcp://10.0.0.1:8080"}
	p := start(t, dataDir(t), misspelt, "config")
	if code := p.exitCode(); code != exitOK || !strings.Contains(p.out.String(), "FANFARE_POSTGRESS_URL; did you mean FANFARE_POSTGRES_URL?") ||
		strings.Contains(p.out.String(), "FANFARE_PORT") {
		t.Errorf("config: exit code %d: %s", code, p.out)
	}
	for _, command := range []string{"config", "all"} {
		fails(t, exitError, append(misspelt, "FANFARE_STRICT=true"), []string{command},
			"FANFARE_STRICT", "FANFARE_POSTGRESS_URL (did you mean FANFARE_POSTGRES_URL?)")
	}
}

// A secret is read from the file that its _FILE variable names, and is not shown.
func TestSecretsFromFiles(t *testing.T) {
	t.Parallel()
	file := func(content string) string {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	short := file("s3cret\n")
	fails(t, exitError, []string{"FANFARE_ADMIN_KEY_FILE=" + short}, []string{"all"}, "FANFARE_ADMIN_KEY", "24")
	fails(t, exitError, []string{"FANFARE_ADMIN_KEY_FILE=" + short, "FANFARE_ADMIN_KEY=x"}, []string{"config"}, "FANFARE_ADMIN_KEY_FILE", "together")
	fails(t, exitError, []string{"FANFARE_SECRET_KEYS_FILE=" + file("\n")}, []string{"config"}, "FANFARE_SECRET_KEYS_FILE", "empty")
	fails(t, exitError, []string{"FANFARE_NATS_URL_FILE=/nowhere"}, []string{"config"}, "FANFARE_NATS_URL_FILE", "/nowhere")
	missing := []string{
		"FANFARE_NATS_URL_FILE=" + file("nats://127.0.0.1:1"), "FANFARE_POSTGRES_URL_FILE=" + file("mysql://s3cret"),
		"FANFARE_SECRET_KEYS_FILE=" + file("k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="),
	}
	fails(t, exitError, missing, []string{"fanout"}, "FANFARE_POSTGRES_URL", "it is not of the form")
	p := start(t, dataDir(t), missing, "config")
	if code := p.exitCode(); code != exitOK || strings.Contains(p.out.String(), "s3cret") {
		t.Errorf("config: exit code %d: %s", code, p.out)
	}
}
