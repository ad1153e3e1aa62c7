package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fanfarehq/fanfare/internal/running"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// The README's first delivery works to the letter: its commands are run by bash, in a copy of the repository. Only
// the ports are others, as those of the README may be taken.
func TestREADMEFirstDelivery(t *testing.T) {
	t.Parallel()
	c := commandsOf(t, "first-delivery")
	repo := copyOfRepository(t)
	ports := map[string]string{}
	for _, known := range []string{"127.0.0.1:8080", "127.0.0.1:9464", "127.0.0.1:4222", "127.0.0.1:9000"} {
		ports[known] = servertest.FreeAddress(t)
	}
	env := []string{
		"FANFARE_ADDR=" + ports["127.0.0.1:8080"], "FANFARE_OPS_ADDR=" + ports["127.0.0.1:9464"],
		"FANFARE_NATS_LISTEN=" + ports["127.0.0.1:4222"],
	}
	command := func(name string) string {
		block := c.take(name)
		for known, other := range ports {
			block = strings.ReplaceAll(block, known, other)
		}
		return strings.Replace(block, "fanfare listen", "fanfare listen --addr "+ports["127.0.0.1:9000"], 1)
	}

	fanfare := startScript(t, repo, command("start"), env)
	fanfare.wait("Fanfare is ready", func() bool {
		_, err := running.Read(filepath.Join(repo, "fanfare-data"))
		return err == nil
	})
	receiver := startScript(t, repo, command("receiver"), env)
	receiver.wait("the receiver listens", func() bool { return strings.Contains(receiver.out.String(), "Listening") })

	publish := startScript(t, repo, command("publish"), env)
	if code := publish.exitCode(); code != 0 {
		t.Fatalf("publishing as in README.md: exit code %d: %s", code, publish.out)
	}
	if !strings.Contains(publish.out.String(), `"secret":"whsec_`) {
		t.Errorf("the answer to the subscription is %s, want its secret in it", publish.out)
	}
	const body = `"data":{"order":"o_17","total":12.5}}`
	receiver.wait("the webhook arrives", func() bool { return strings.Contains(receiver.out.String(), body) })

	var deliveries struct {
		Data []struct{ State string }
	}
	lookCommand := command("look")
	await(t, "the delivery is listed as delivered", func() bool {
		look := startScript(t, repo, lookCommand, env)
		if code := look.exitCode(); code != 0 {
			t.Fatalf("looking as in README.md: exit code %d: %s", code, look.out)
		}
		if err := json.Unmarshal([]byte(look.out.String()), &deliveries); err != nil {
			t.Fatalf("%v in %s", err, look.out)
		}
		return len(deliveries.Data) == 1 && deliveries.Data[0].State == "delivered"
	})

	// Ctrl-C goes to all processes of the terminal.
	for _, p := range []*process{receiver, fanfare} {
		if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGINT); err != nil {
			t.Error(err)
		}
		p.exitCode()
	}
	if _, err := running.Read(filepath.Join(repo, "fanfare-data")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Ctrl-C, running.json: got %v, want it gone", err)
	}
}

// The guide's dialects work to the letter as well: the commands for each vendor, one after the other in one terminal.
func TestDialectCommands(t *testing.T) {
	t.Parallel()
	c := commandsOf(t, "dialects")
	root := dataDir(t)
	data := filepath.Join(root, "fanfare-data")
	_, at := startAll(t, data)
	listen, ok := strings.CutPrefix(strings.TrimSpace(c.take("receiver")), "go run ./cmd/fanfare ")
	if !ok {
		t.Fatal("the guide does not receive by go run ./cmd/fanfare")
	}
	address := servertest.FreeAddress(t)
	receiver := start(t, data, nil, append(strings.Fields(listen), "--addr", address)...)
	receiver.wait("the receiver listens", func() bool { return strings.Contains(receiver.out.String(), "Listening") })

	script := ""
	for _, name := range []string{"key", "leat", "kajabi", "passona", "babelfor"} {
		script += c.take(name) + "\n"
	}
	terminal := startScript(t, root, strings.NewReplacer("http://127.0.0.1:8080", at.API, "127.0.0.1:9000", address).Replace(script), nil)
	if code := terminal.exitCode(); code != 0 {
		t.Fatalf("dialects as in the guide: exit code %d: %s", code, terminal.out)
	}
	leat := `{"type":"contact_updated","data":{"contact":{"email":"sandy@example.com"}}}`
	license := `{"license":"L-17"}`
	for _, part := range []string{
		leat, "X-Piggy-Signature: " + hexHMAC("s3cret", []byte(leat)),
		`{"id":"9","event":"tag_added","payload":[{"id":"9","type":"contacts"}]}`,
		"X-Team: red", `{"keyword":"JOIN"}`,
		license, "X-Webhook-Signature: sha256=" + hexHMAC("s3cret", []byte(license)),
	} {
		receiver.wait(part+" arrives", func() bool { return strings.Contains(receiver.out.String(), part) })
	}
}

// copyOfRepository is what a clone would hold.
func copyOfRepository(t *testing.T) string {
	t.Helper()
	to := t.TempDir()
	root := os.DirFS("../..")
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (name == ".git" || name == "fanfare-data"):
			return fs.SkipDir
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		case !entry.Type().IsRegular():
			return nil
		}
		content, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), content, 0o755)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// startScript runs commands as a terminal does: all their processes are one group.
func startScript(t *testing.T, dir, script string, env []string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command("bash", "-euo", "pipefail", "-c", script), out: &lockedBuffer{}, done: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Env = append(append(cleanEnv(), "FANFARE_SHUTDOWN_DELAY=0s", storesSlowly), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("bash: %v", err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // The group is gone if all went well.
		<-p.done
		if t.Failed() {
			t.Logf("%s\nprinted, at the end:\n%s", script, p.out.tail())
		}
	})
	return p
}
