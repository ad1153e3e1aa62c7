package check

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/fanfarehq/fanfare/internal/embedded"
)

// stack is the services of docker-compose.yml as processes of this machine.
type stack struct {
	t       *testing.T
	project *types.Project
	nats    *broker
	// local replaces names of services by addresses of this machine.
	local *strings.Replacer
	apis  map[string]string // addresses by service
	// superuser is the URL of Postgres's own role; folder is where commands of the handbook run.
	superuser, folder string
}

// broker is a NATS with deploy/nats.conf.
type broker struct {
	*server.Server
	mu         sync.Mutex
	violations []string
}

func (b *broker) note(format string, v []any) {
	if line := fmt.Sprintf(format, v...); strings.Contains(line, "Violation") {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.violations = append(b.violations, line)
	}
}
func (b *broker) Noticef(string, ...any)         {}
func (b *broker) Warnf(format string, v ...any)  { b.note(format, v) }
func (b *broker) Fatalf(format string, v ...any) { b.note(format, v) }
func (b *broker) Errorf(format string, v ...any) { b.note(format, v) }
func (b *broker) Debugf(string, ...any)          {}
func (b *broker) Tracef(string, ...any)          {}

// seen are the permissions that somebody lacked.
func (b *broker) seen() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.violations...)
}

// startBroker runs NATS with the file and the environment of its service.
func startBroker(t *testing.T, s types.ServiceConfig) *broker {
	t.Helper()
	for name, value := range s.Environment {
		t.Setenv(name, *value)
	}
	var file string
	for _, v := range s.Volumes {
		if v.Target == s.Command[1] {
			file = v.Source
		}
	}
	return runBroker(t, file)
}

// runBroker runs NATS with a file.
func runBroker(t *testing.T, file string) *broker {
	t.Helper()
	options, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatalf("nats %s: %v", file, err)
	}
	options.Host, options.Port, options.HTTPHost, options.HTTPPort = "127.0.0.1", -1, "127.0.0.1", -1
	options.StoreDir, options.NoSigs = t.TempDir(), true
	b := &broker{}
	if b.Server, err = server.NewServer(options); err != nil {
		t.Fatal(err)
	}
	b.SetLoggerV2(b, false, false, false)
	go b.Start()
	t.Cleanup(func() { b.Shutdown(); b.WaitForShutdown() })
	if !b.ReadyForConnections(time.Minute) {
		t.Fatal("NATS does not start")
	}
	return b
}

// startPostgres runs Postgres and the script of its service, and returns what stands for the address in the roles' URLs.
func startPostgres(t *testing.T, s types.ServiceConfig) (from, to, superuser string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "fanfare-check-postgres-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	pg, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: dir, Throwaway: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Stop(); err != nil {
			t.Error(err)
		}
	})
	at, err := url.Parse(pg.URL())
	if err != nil {
		t.Fatal(err)
	}
	var script string
	for _, v := range s.Volumes {
		if strings.HasPrefix(v.Target, "/docker-entrypoint-initdb.d/") {
			script = v.Source
		}
	}
	if _, err := exec.LookPath("psql"); err != nil {
		t.Fatal("the test needs psql: apt-get install postgresql-client")
	}
	env := append(os.Environ(), "PGHOST="+at.Query().Get("host"), "PGPORT="+at.Query().Get("port"))
	// The private server's superuser and database have the names that the script makes: they get others, as in the image.
	for _, as := range []struct{ user, statement string }{
		{at.Query().Get("user"), "CREATE ROLE postgres SUPERUSER LOGIN"},
		{"postgres", "ALTER ROLE fanfare RENAME TO former"},
		{"postgres", "DROP DATABASE IF EXISTS fanfare"},
	} {
		cmd := exec.CommandContext(ctx, "psql", "--no-psqlrc", "--username", as.user, "--dbname", "postgres", "--command", as.statement)
		cmd.Env = env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", as.statement, err, out)
		}
	}
	cmd := exec.CommandContext(ctx, script)
	cmd.Env = env
	for name, value := range s.Environment {
		cmd.Env = append(cmd.Env, name+"="+*value)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	where := "/fanfare?host=" + at.Query().Get("host") + "&port=" + at.Query().Get("port")
	return "@postgres:5432/fanfare?", "@" + where + "&", "postgres://" + where + "&user=postgres"
}

// freeAddress is one that nobody listens at, below the ports that the kernel hands out by itself: a connection of any process might
// take one of those before it is used.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.N(12000))
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("there is no free port")
	return ""
}

// child is a service that runs.
type child struct {
	name string
	out  *lockedBuffer
	cmd  *exec.Cmd
	done chan struct{}
	env  []string
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// run starts a service's command with its environment, on addresses of this machine, with a data directory that stays empty.
func (s *stack) run(name string) *child {
	s.t.Helper()
	path, err := fanfare()
	if err != nil {
		s.t.Fatal(err)
	}
	service := s.project.Services[name]
	var args []string
	for _, a := range service.Command {
		args = append(args, s.local.Replace(a))
	}
	c := &child{name: name, out: &lockedBuffer{}, cmd: exec.Command(path, args...), done: make(chan struct{})}
	address := s.apis[name]
	if address == "" {
		address = freeAddress(s.t)
	}
	c.env = []string{
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir(), "FANFARE_ADDR=" + address, "FANFARE_OPS_ADDR=" + freeAddress(s.t),
		"FANFARE_DATA_DIR=" + s.t.TempDir(), "FANFARE_SHUTDOWN_DELAY=100ms",
	}
	for variable, value := range service.Environment {
		c.env = append(c.env, variable+"="+s.local.Replace(*value))
	}
	c.cmd.Env, c.cmd.Stdout, c.cmd.Stderr = c.env, c.out, c.out
	if err := c.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		_ = c.cmd.Wait() // The exit code is in ProcessState.
		close(c.done)
	}()
	s.t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.done
		if text := c.out.String(); s.t.Failed() {
			s.t.Logf("%s printed, at the end:\n%s", name, text[max(0, len(text)-4<<10):])
		}
	})
	return c
}

// healthy waits until the service's health check passes.
func (s *stack) healthy(c *child) {
	s.t.Helper()
	test := s.project.Services[c.name].HealthCheck.Test
	if len(test) < 3 || test[0] != "CMD" || test[1] != "/fanfare" {
		s.t.Fatalf("%s has the health check %v", c.name, test)
	}
	await(s.t, c.name+" is healthy", func() bool {
		select {
		case <-c.done:
			s.t.Fatalf("%s ended: %v", c.name, c.cmd.ProcessState)
		default:
		}
		check := exec.CommandContext(s.t.Context(), c.cmd.Path, test[2:]...)
		check.Env = c.env
		return check.Run() == nil
	})
}

// stop ends a service as `docker compose stop` does.
func (s *stack) stop(c *child) {
	s.t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Error(err)
	}
	<-c.done
	if code := c.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Errorf("%s: exit code %d after SIGTERM", c.name, code)
	}
}

// up starts everything in the order of the compose file.
func up(t *testing.T) *stack {
	t.Helper()
	p, err := project(t, secrets(t))
	if err != nil {
		t.Fatal(err)
	}
	s := &stack{t: t, project: p, nats: startBroker(t, p.Services["nats"]), apis: map[string]string{}}
	from, to, superuser := startPostgres(t, p.Services["postgres"])
	s.superuser, s.folder = superuser, t.TempDir()
	s.apis["api"], s.apis["ingest"] = freeAddress(t), freeAddress(t)
	hooks := freeAddress(t)
	s.local = strings.NewReplacer(from, to, "@nats:4222", "@"+s.nats.Addr().String(), "http://api:8080", "http://"+s.apis["api"],
		"http://receiver:9000", "http://"+hooks, "0.0.0.0:9000", hooks)
	topology := s.run("topology")
	<-topology.done
	if code := topology.cmd.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("topology: exit code %d\n%s", code, topology.out)
	}
	return s
}

// call asks the API and returns the answer. A 503 asks to repeat the request.
func (s *stack) call(route string, in any) (got map[string]any) {
	s.t.Helper()
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			s.t.Fatal(err)
		}
	}
	await(s.t, route+" is answered", func() bool {
		status, answer := s.ask(route, body)
		if status == http.StatusServiceUnavailable {
			s.t.Logf("%s: %d %s", route, status, answer)
			return false
		}
		if status/100 != 2 {
			s.t.Fatalf("%s: %d %s", route, status, answer)
		}
		if len(answer) > 0 {
			if err := json.Unmarshal(answer, &got); err != nil {
				s.t.Fatalf("%s: %v: %s", route, err, answer)
			}
		}
		return true
	})
	return got
}

func (s *stack) ask(route string, body []byte) (status int, answer []byte) {
	s.t.Helper()
	method, path, _ := strings.Cut(route, " ")
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.apis["api"]+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+secrets(s.t)["FANFARE_ADMIN_KEY"])
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, answer
}

// What docker-compose.yml describes works: each service's own command, environment, mounted files and health check, in order,
// with deliver twice; every user of NATS may do all that its role does, and no more.
func TestComposeRuns(t *testing.T) {
	s := up(t)
	health := "http://" + s.nats.MonitorAddr().String() + "/healthz"
	if test := s.project.Services["nats"].HealthCheck.Test; !strings.HasSuffix(test[len(test)-1], "/healthz") {
		t.Errorf("NATS has the health check %v", test)
	}
	resp, err := http.Get(health)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v, %v", health, resp, err)
	}
	resp.Body.Close()

	var roles []*child
	for _, name := range []string{"api", "ingest", "fanout", "deliver", "deliver"} {
		roles = append(roles, s.run(name))
	}
	for _, c := range roles {
		s.healthy(c)
	}
	receiver := s.run("receiver")
	await(t, "the receiver listens", func() bool { return strings.Contains(receiver.out.String(), "Listening") })
	load := s.run("load")
	await(t, "the load is delivered", func() bool { return strings.Count(receiver.out.String(), "POST /") >= 20 })
	s.stop(load)
	s.everything(receiver)
	s.scalable(roles)
	s.handbook("backup", roles[2])
	for _, c := range roles {
		await(t, c.name+" is ready and its events are synced", func() bool {
			check := exec.Command(c.cmd.Path, "health", "--ready")
			check.Env = c.env
			out, err := check.CombinedOutput()
			return err == nil && strings.Contains(string(out), `"durability":"synced"`)
		})
	}
	s.audited(roles[3:])
	for _, c := range append(roles[:3], receiver) {
		s.stop(c)
	}
	if seen := s.nats.seen(); len(seen) > 0 {
		t.Errorf("permissions that a role lacks:\n%s", strings.Join(seen, "\n"))
	}
	output(t, "psql", "--no-psqlrc", "--quiet", "--command", "DROP SCHEMA fanfare CASCADE; CREATE SCHEMA fanfare AUTHORIZATION fanfare", s.superuser)
	s.handbook("restore", roles[2])
	s.refused()
}

// audited stops the workers and has an event audited whose delivery waits for them: its task is looked at.
func (s *stack) audited(workers []*child) {
	s.t.Helper()
	for _, c := range workers {
		s.stop(c)
	}
	s.call("POST /v1/subscriptions?tenant=beta", map[string]any{
		"name": "x", "url": s.local.Replace("http://receiver:9000") + "/beta", "event_types": []string{"*"},
	})
	id := s.call("POST /v1/events?tenant=beta", map[string]any{"type": "order.created", "data": map[string]any{}})["id"]
	await(s.t, "the event is matched", func() bool {
		status, answer := s.ask(fmt.Sprintf("GET /v1/events/%v?tenant=beta", id), nil)
		return status == http.StatusOK && bytes.Contains(answer, []byte(`"matched":1`))
	})
	s.call("GET /v1/audit?since="+time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), nil)
	s.tool("fanout", "audit", "--span", "1h")
}

// tool runs a command with the environment of a role: `docker compose run --rm fanout audit --repair`.
func (s *stack) tool(role string, args ...string) {
	s.t.Helper()
	path, err := fanfare()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.CommandContext(s.t.Context(), path, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "FANFARE_DATA_DIR=" + filepath.Join(s.t.TempDir(), "none")}
	for variable, value := range s.project.Services[role].Environment {
		cmd.Env = append(cmd.Env, variable+"="+s.local.Replace(*value))
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Errorf("%s %v: %v\n%s", role, args, err, out)
	}
}

// handbook runs a block of docs/operations.md with the environment of a service, in a folder of the test's own.
func (s *stack) handbook(name string, as *child) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), "bash", "-euc", block(s.t, name))
	cmd.Dir = s.folder
	cmd.Env = append(slices.Clone(as.env), "PATH="+filepath.Dir(as.cmd.Path)+string(os.PathListSeparator)+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Errorf("%s: %v\n%s", name, err, out)
	}
}

// everything uses what the demo does not: so each permission of NATS is needed at least once.
func (s *stack) everything(receiver *child) {
	s.t.Helper()
	tail, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.apis["api"]+"/v1/tail?tenant=acme", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	tail.Header.Set("Authorization", "Bearer "+secrets(s.t)["FANFARE_ADMIN_KEY"])
	stream, err := http.DefaultClient.Do(tail)
	if err != nil {
		s.t.Fatal(err)
	}
	defer stream.Body.Close()

	sub := s.call("POST /v1/subscriptions?tenant=acme", map[string]any{
		"name": "x", "url": s.local.Replace("http://receiver:9000") + "/acme", "event_types": []string{"*"},
	})
	made := s.call("POST /v1/events?tenant=acme", map[string]any{"type": "order.created", "data": map[string]any{"order": "o_17"}})
	id, _ := made["id"].(string)
	await(s.t, "the event is delivered", func() bool { return strings.Contains(receiver.out.String(), "/acme") })
	if n, err := stream.Body.Read(make([]byte, 1<<10)); n == 0 {
		s.t.Errorf("the tail shows nothing: %v", err)
	}
	var first map[string]any
	await(s.t, "the delivery is in the ledger", func() bool {
		list, _ := s.call("GET /v1/deliveries?tenant=acme&event="+id, nil)["data"].([]any)
		if len(list) == 1 {
			first, _ = list[0].(map[string]any)
		}
		return first["state"] == "delivered"
	})
	s.call("GET /v1/events/"+id+"?tenant=acme", nil)
	s.call("GET /v1/events/"+id+"/explain?tenant=acme", nil)
	s.call("POST /v1/subscriptions/preview?tenant=acme", map[string]any{"event_types": []string{"*"}})
	// One after the other: a replay leaves out what is being sent again.
	again := func(route string, body any) {
		s.t.Helper()
		before := strings.Count(receiver.out.String(), "/acme")
		s.call(route, body)
		await(s.t, route+" sends", func() bool { return strings.Count(receiver.out.String(), "/acme") > before })
		await(s.t, "nothing is under way", func() bool {
			list, _ := s.call("GET /v1/deliveries?tenant=acme&state=pending", nil)["data"].([]any)
			return len(list) == 0
		})
	}
	again(fmt.Sprintf("POST /v1/subscriptions/%v/test?tenant=acme", sub["id"]), map[string]any{})
	again(fmt.Sprintf("POST /v1/deliveries/%v/retry?tenant=acme", first["id"]), nil)
	await(s.t, "the second delivery is in the ledger", func() bool {
		list, _ := s.call("GET /v1/deliveries?tenant=acme&event="+id, nil)["data"].([]any)
		return len(list) == 2
	})
	again(fmt.Sprintf("POST /v1/subscriptions/%v/replay?tenant=acme", sub["id"]), map[string]any{
		"since": time.Now().Add(-time.Hour), "until": time.Now(), "only": "all",
	})
	s.call("GET /v1/audit?since="+time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)+"&until="+time.Now().UTC().Format(time.RFC3339), nil)
	s.call("DELETE /v1/events/"+id+"/data?tenant=acme", nil)
	s.call("DELETE /v1/tenants/acme", nil)
	await(s.t, "the tenant is erased", func() bool {
		status, _ := s.ask("GET /v1/tenants/acme", nil)
		return status == http.StatusNotFound
	})

	for _, role := range []string{"api", "fanout"} {
		s.tool(role, "topology", "check")
		s.tool(role, "audit", "--span", "1h")
	}
}

// scalable asks for the numbers by which the Helm chart's ScaledObjects scale, as KEDA asks for them.
func (s *stack) scalable(roles []*child) {
	s.t.Helper()
	asked := 0
	for _, m := range rendered(s.t, "testdata/values/keda.yaml") {
		triggers, _ := at(map[string]any(m), "spec", "triggers").([]any)
		for _, trigger := range triggers {
			asked++
			meta := func(name string) string { return fmt.Sprint(at(trigger, "metadata", name)) }
			switch at(trigger, "type") {
			case "nats-jetstream":
				jsz := s.get("http://" + s.nats.MonitorAddr().String() + "/jsz?acc=" + meta("account") + "&consumers=true")
				if !regexp.MustCompile(`"stream_name":\s*"` + meta("stream") + `",\s*"name":\s*"` + meta("consumer") + `"`).MatchString(jsz) {
					s.t.Errorf("NATS has no consumer %s of %s in account %s:\n%s", meta("consumer"), meta("stream"), meta("account"), jsz)
				}
			case "metrics-api":
				deliver := roles[len(roles)-1]
				for _, variable := range deliver.env {
					if ops, is := strings.CutPrefix(variable, "FANFARE_OPS_ADDR="); is {
						if metrics := s.get("http://" + ops + "/metrics"); !strings.Contains(metrics, "\n"+meta("valueLocation")+" ") {
							s.t.Errorf("there is no metric %s", meta("valueLocation"))
						}
					}
				}
			case "postgresql":
				var at string
				for _, variable := range roles[0].env {
					if url, is := strings.CutPrefix(variable, "FANFARE_POSTGRES_URL="); is {
						at = url
					}
				}
				output(s.t, "psql", "--no-psqlrc", "--command", meta("query"), at)
			}
		}
	}
	if asked != 4 {
		s.t.Errorf("%d triggers, want 4", asked)
	}
}

func (s *stack) get(url string) string {
	s.t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	return string(answer)
}

// refused tries what a role's user must not do.
func (s *stack) refused() {
	s.t.Helper()
	for user, subjects := range map[string][]string{
		"topology": {"events.acme.order.created", "tasks.x"},
		"api":      {"tasks.x", "attempts.x", "$JS.API.STREAM.DELETE.EVENTS", "$JS.API.CONSUMER.DELETE.EVENTS.fanout"},
		"ingest":   {"tasks.x", "$JS.API.STREAM.PURGE.EVENTS", "$JS.API.DIRECT.GET.EVENTS"},
		"fanout":   {"events.acme.order.created", "attempts.x", "$JS.API.STREAM.DELETE.EVENTS", "$JS.API.CONSUMER.MSG.NEXT.TASKS.deliver"},
		"deliver":  {"tasks.x", "$JS.API.STREAM.PURGE.EVENTS", "$JS.API.STREAM.UPDATE.EVENTS", "$JS.API.CONSUMER.MSG.NEXT.EVENTS.fanout"},
	} {
		password := secrets(s.t)["NATS_"+strings.ToUpper(user)+"_PASSWORD"]
		for _, subject := range subjects {
			before := len(s.nats.seen())
			nc, err := nats.Connect("nats://"+s.nats.Addr().String(), nats.UserInfo(user, password), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
			if err != nil {
				s.t.Fatalf("%s: %v", user, err)
			}
			if err := nc.Publish(subject, nil); err != nil {
				s.t.Error(err)
			}
			_ = nc.Flush() // The answer to it comes after the violation.
			if len(s.nats.seen()) == before {
				s.t.Errorf("%s may publish to %s", user, subject)
			}
			nc.Close()
		}
	}
}
