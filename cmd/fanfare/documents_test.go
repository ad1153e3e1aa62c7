package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.yaml.in/yaml/v3"

	"github.com/fanfarehq/fanfare/docs"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// documents returns README.md and all guides by their paths, the decisions included.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	all["README.md"] = string(readme)
	err = fs.WalkDir(docs.Guides, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(docs.Guides, name)
		all["docs/"+name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// block is a fenced block of a document. A mark above it, <!-- subject: name -->, says which test runs it.
type block struct{ file, subject, name, language, text string }

var fenced = regexp.MustCompile("(?ms)^(?:<!-- ([\\w-]+): (\\w+) -->\n)?```(\\w*)\n(.*?)^```$")

// blocksOf returns the blocks with a subject, in their order; with the empty subject, all of them.
func blocksOf(t *testing.T, subject string) (found []block) {
	t.Helper()
	for file, text := range documents(t) {
		for _, m := range fenced.FindAllStringSubmatch(text, -1) {
			if subject == "" || m[1] == subject {
				found = append(found, block{file, m[1], m[2], m[3], m[4]})
			}
		}
	}
	return found
}

// commands are the blocks of a subject that a test has not run yet.
type commands struct {
	t       *testing.T
	subject string
	left    map[string]string
}

// commandsOf fails the test in the end if it left a block out.
func commandsOf(t *testing.T, subject string) *commands {
	t.Helper()
	c := &commands{t, subject, map[string]string{}}
	for _, b := range blocksOf(t, subject) {
		c.left[b.name] = b.text
	}
	t.Cleanup(func() {
		for name := range c.left {
			t.Errorf("no test runs the block %q of %q", name, subject)
		}
	})
	return c
}

func (c *commands) take(name string) string {
	c.t.Helper()
	text, ok := c.left[name]
	if !ok {
		c.t.Fatalf("the documents have no block %q of %q", name, c.subject)
	}
	delete(c.left, name)
	return text
}

// guides are the subjects whose blocks are run as one script beside a fanfare all, with texts that it must print.
var guides = map[string][]string{
	"concepts":      {`"key":"ff_`, `"deliveries_per_second":200`, `"name":"invoice.created"`, `"validation":"warn"`, `"version":2`, `"operationId":"invoice.created"`},
	"publishing":    {`{"id":"evt_17","duplicate":false}`, `"accepted":1`, `"accepted":2`, `"id":"ce_`, `"next_cursor":null`},
	"subscriptions": {`"secret":"whsec_`, `"examined":`, `"step":"filter","verdict":"fail"`, `"delivery_id":`, `"status":"paused"`, `"window":"24h"`, `"state":"counting"`, `"replay_id":`},
	"ordering":      {`"on_dead":"continue"`, `"accepted":3`},
	"configuration": {"FANFARE_POSTGRES_URL"},
	"operations":    {"EVENTS as it should be", `"durability":"synced"`, "encrypted with key"},
}

// strictCurl makes an answer of 4xx or 5xx an error of the script; 503 is asked again, as machines that run tests are busy.
const strictCurl = "curl() { command curl --retry 30 --retry-delay 1 --fail-with-body \"$@\"; }\n"

// The commands of the guides work to the letter. Only addresses are others.
func TestGuideCommands(t *testing.T) {
	t.Parallel()
	root := dataDir(t)
	_, at := startAll(t, filepath.Join(root, "fanfare-data"))
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program, filepath.Join(root, "fanfare")); err != nil {
		t.Fatal(err)
	}
	receiver := start(t, root, nil, "listen", "--addr", "127.0.0.1:0")
	receiver.wait("the receiver listens", func() bool { return strings.Contains(receiver.out.String(), "Listening") })
	address := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(receiver.out.String())
	local := strings.NewReplacer("http://127.0.0.1:8080", at.API, "http://127.0.0.1:9464", at.Ops, "127.0.0.1:9000", address)
	for subject, prints := range guides {
		t.Run(subject, func(t *testing.T) {
			t.Parallel()
			script := strictCurl
			for _, b := range blocksOf(t, subject) {
				script += b.text + "\n"
			}
			terminal := startScript(t, root, local.Replace(script), []string{
				"PATH=" + root + string(os.PathListSeparator) + os.Getenv("PATH"), "FANFARE_DATA_DIR=" + filepath.Join(root, "fanfare-data"),
			})
			if code := terminal.exitCode(); code != 0 {
				t.Fatalf("exit code %d", code)
			}
			for _, text := range prints {
				if !strings.Contains(terminal.out.String(), text) {
					t.Errorf("it does not print %s", text)
				}
			}
		})
	}
}

// README's first delivery with Docker works as far as it can be tried without Docker: the settings are complete, the services
// exist, fanfare knows the commands, and with these settings the receiver gets the event.
func TestDockerFirstDelivery(t *testing.T) {
	t.Parallel()
	c := commandsOf(t, "docker")
	dir := dataDir(t)
	docker := "docker() { echo \"$*\" >> docker.log; }\n"
	if code := startScript(t, dir, docker+c.take("start"), nil).exitCode(); code != 0 {
		t.Fatalf("start: exit code %d", code)
	}
	env, err := os.ReadFile(filepath.Join(dir, ".env"))
	if err != nil {
		t.Fatal(err)
	}
	calls, err := os.ReadFile(filepath.Join(dir, "docker.log"))
	if err != nil {
		t.Fatal(err)
	}
	listen := composeRuns(t, string(env), string(calls))

	_, at := startAll(t, filepath.Join(dir, "fanfare-data"), append(strings.Fields(string(env)), "FANFARE_ALLOW_PRIVATE_CIDRS=127.0.0.0/8")...)
	address := servertest.FreeAddress(t)
	receiver := start(t, dir, nil, strings.Fields(strings.ReplaceAll(listen, "0.0.0.0:9000", address))...)
	receiver.wait("the receiver listens", func() bool { return strings.Contains(receiver.out.String(), "Listening") })
	local := strings.NewReplacer("http://127.0.0.1:8080", at.API, "receiver:9000", address)
	if code := startScript(t, dir, strictCurl+local.Replace(c.take("publish")), nil).exitCode(); code != 0 {
		t.Fatalf("publish: exit code %d", code)
	}
	receiver.wait("the webhook arrives", func() bool {
		return strings.Contains(receiver.out.String(), `"data":{"order":"o_17","total":12.5}}`)
	})
}

// composeRuns checks the calls of docker compose and returns the arguments that fanfare gets of `docker compose run`.
func composeRuns(t *testing.T, env, calls string) string {
	t.Helper()
	content, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`\$\{(\w+):\?`).FindAllSubmatch(content, -1) {
		if !strings.Contains(env, string(m[1])+"=") {
			t.Errorf("the settings lack %s", m[1])
		}
	}
	var compose struct{ Services map[string]any }
	if err := yaml.Unmarshal(content, &compose); err != nil {
		t.Fatal(err)
	}
	run := regexp.MustCompile(`compose run (?:--rm |--no-deps |--name receiver )+(\S+) (.*)`).FindStringSubmatch(calls)
	if !strings.Contains(calls, "compose up") || run == nil || compose.Services[run[1]] == nil {
		t.Fatalf("docker was called by %q", calls)
	}
	parser, err := kong.New(&cli{}, kong.Name("fanfare"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(strings.Fields(run[2])); err != nil {
		t.Errorf("fanfare %s: %v", run[2], err)
	}
	return run[2]
}

// No command of a document is left to be believed: each has a mark, and a test runs its subject.
func TestEveryCommandIsRun(t *testing.T) {
	t.Parallel()
	run := []string{"first-delivery", "docker", "dialects", "handbook"} // handbook: deploy/check
	for _, b := range blocksOf(t, "") {
		_, guide := guides[b.subject]
		if b.language == "bash" && !guide && !slices.Contains(run, b.subject) {
			t.Errorf("%s: no test runs this command: give it a mark, <!-- subject: name -->\n%s", b.file, b.text)
		}
	}
}

// verifiers run the functions of the guide "receiving": each is completed to a program that reads lines of secret, id,
// timestamp, signatures and body, separated by tabs, and prints true or false for each.
var verifiers = map[string]struct {
	needs []string // programs
	file  string
	main  string // stands after the function, or before its last class in java
	run   []string
}{
	"go": {[]string{"go"}, "main.go", `
func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		f := strings.Split(lines.Text(), "\t")
		fmt.Println(Verify(f[0], f[1], f[2], f[3], []byte(f[4])))
	}
}
`, []string{"go", "run", "main.go"}},
	"js": {[]string{"node"}, "verify.mjs", `
import { readFileSync } from "node:fs";
for (const line of readFileSync(0, "utf8").trimEnd().split("\n")) {
  const [secret, id, timestamp, signatures, body] = line.split("\t");
  console.log(verify(secret, id, timestamp, signatures, Buffer.from(body)));
}
`, []string{"node", "verify.mjs"}},
	"python": {[]string{"python3"}, "verify.py", `
import sys
for line in sys.stdin.buffer.read().decode().rstrip("\n").split("\n"):
    secret, id, timestamp, signatures, body = line.split("\t")
    print(str(verify(secret, id, timestamp, signatures, body.encode())).lower())
`, []string{"python3", "verify.py"}},
	"ruby": {[]string{"ruby"}, "verify.rb", `
STDIN.read.force_encoding("UTF-8").chomp.split("\n").each { |line| puts verify(*line.split("\t", -1)) }
`, []string{"ruby", "verify.rb"}},
	"php": {[]string{"php"}, "verify.php", `
foreach (explode("\n", rtrim(stream_get_contents(STDIN), "\n")) as $line) {
    echo verify(...explode("\t", $line)) ? "true\n" : "false\n";
}
`, []string{"php", "verify.php"}},
	"java": {[]string{"java", "javac"}, "Main.java", `
class Main {
    public static void main(String[] args) throws Exception {
        for (String line : new String(System.in.readAllBytes(), StandardCharsets.UTF_8).split("\n")) {
            String[] f = line.split("\t", -1);
            System.out.println(Webhooks.verify(f[0], f[1], f[2], f[3], f[4].getBytes(StandardCharsets.UTF_8)));
        }
    }
}
`, []string{"java", "-Dfile.encoding=UTF-8", "Main.java"}},
}

// The functions that verify signatures agree with the Standard Webhooks library, in each language that this machine has. Of
// the others the constants are looked at.
func TestVerifyInSixLanguages(t *testing.T) {
	t.Parallel()
	input, want := signedLines(t)
	c := commandsOf(t, "verify")
	for language, v := range verifiers {
		source := c.take(language)
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			for _, constant := range []string{"whsec_", "v1,", "300"} {
				if !strings.Contains(source, constant) {
					t.Errorf("the function does not know %s", constant)
				}
			}
			for _, program := range v.needs {
				if _, err := exec.LookPath(program); err != nil {
					t.Logf("not run: this machine has no %s", program)
					return
				}
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, v.file), []byte(complete(language, source, v.main)), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), v.run[0], v.run[1:]...)
			cmd.Dir, cmd.Stdin = dir, strings.NewReader(input)
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			if err := cmd.Run(); err != nil || out.String() != want {
				t.Errorf("%v\ngot\n%s\nwant\n%s\n%s", err, out.String(), want, errs.String())
			}
		})
	}
}

// complete makes a program of a function.
func complete(language, source, end string) string {
	switch language {
	case "go":
		source = strings.Replace(source, "package webhooks", "package main", 1)
		return strings.Replace(source, "import (", "import (\n\t\"bufio\"\n\t\"fmt\"\n\t\"os\"", 1) + end
	case "java": // The class that is started comes first.
		return strings.Replace(source, "final class", end+"\nfinal class", 1)
	}
	return source + end
}

// signedLines are cases for the verifiers, with the answers.
func signedLines(t *testing.T) (input, want string) {
	t.Helper()
	const secret, other = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	const body = `{"type":"order.created","data":{"name":"Büro","total":12.5}}`
	sign := func(secret string, at time.Time) string {
		wh, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		signature, err := wh.Sign("evt_17", at, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	now, old := time.Now(), time.Now().Add(-10*time.Minute)
	right := sign(secret, now)
	for _, c := range []struct {
		secret, id, signatures, body string
		at                           time.Time
		is                           bool
	}{
		{secret, "evt_17", right, body, now, true},
		{secret, "evt_17", sign(other, now) + " v1a,AAAA " + right, body, now, true},
		{secret, "evt_17", sign(other, now), body, now, false},
		{other, "evt_17", right, body, now, false},
		{secret, "evt_18", right, body, now, false},
		{secret, "evt_17", right, body + " ", now, false},
		{secret, "evt_17", right[:len(right)-2], body, now, false},
		{secret, "evt_17", "", body, now, false},
		{secret, "evt_17", sign(secret, old), body, old, false},
		{secret, "evt_17", sign(secret, old), body, now, false},
	} {
		input += fmt.Sprintf("%s\t%s\t%d\t%s\t%s\n", c.secret, c.id, c.at.Unix(), c.signatures, c.body)
		want += fmt.Sprintf("%t\n", c.is)
	}
	return input, want
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

// Links between documents lead somewhere, also to the heading that they name.
func TestDocumentLinks(t *testing.T) {
	t.Parallel()
	all := documents(t)
	for file, text := range all {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			to, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(to, "://") {
				continue
			}
			target := file
			if to != "" {
				target = path.Join(path.Dir(file), to)
			}
			if _, err := os.Stat(filepath.Join("../..", target)); err != nil {
				t.Errorf("%s links to %s: %v", file, m[1], err)
			}
			if anchor != "" && !slices.Contains(anchors(all[target]), anchor) {
				t.Errorf("%s links to %s, which has no such heading", file, m[1])
			}
		}
	}
}

// anchors are the ids of a document's headings, as GitHub and goldmark make them.
func anchors(text string) (ids []string) {
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		id := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		ids = append(ids, strings.ReplaceAll(strings.TrimSpace(id), " ", "-"))
	}
	return ids
}

// The documents that are written for users name the subject of each sentence.
func TestDocumentsNameTheSubject(t *testing.T) {
	t.Parallel()
	vague := regexp.MustCompile(`\b(what|who|whoever|whatever) (is|are|was|has|have|must|may|comes|waits|gets)\b`)
	for file, text := range documents(t) {
		if strings.HasPrefix(file, "docs/decisions/") {
			continue
		}
		for _, found := range vague.FindAllString(text, -1) {
			t.Errorf("%s says %q", file, found)
		}
	}
	if lines := strings.Count(documents(t)["README.md"], "\n"); lines >= 200 {
		t.Errorf("README.md has %d lines, want fewer than 200", lines)
	}
}

// The guide lists every setting with its default.
func TestConfigurationGuide(t *testing.T) {
	t.Parallel()
	guide := documents(t)["docs/configuration.md"]
	for _, s := range describe(newSettings().sections()) {
		row := "| `" + s.Name + "` |"
		if s.Default != "" {
			row += " `" + s.Default + "`"
		}
		if !strings.Contains(guide, row) {
			t.Errorf("docs/configuration.md lacks the row %s", row)
		}
	}
}

// Every decision is in the index.
func TestDecisionsAreIndexed(t *testing.T) {
	t.Parallel()
	all := documents(t)
	for file := range all {
		name, ok := strings.CutPrefix(file, "docs/decisions/")
		if ok && name != "README.md" && !strings.Contains(all["docs/decisions/README.md"], "]("+name+")") {
			t.Errorf("docs/decisions/README.md does not list %s", name)
		}
	}
}

// The page of the folders names each one that exists, but the dialects' own.
func TestArchitectureNamesFolders(t *testing.T) {
	t.Parallel()
	page := documents(t)["docs/architecture.md"]
	for pkg := range arrows() {
		_, err := os.Stat(filepath.Join("../..", pkg))
		if err == nil && !strings.HasPrefix(pkg, "internal/dialects/") && !strings.Contains(page, "\n"+pkg+"/ ") {
			t.Errorf("docs/architecture.md does not name %s/", pkg)
		}
	}
}

// The guides are served beside the reference, each under its name.
func testGuides(t *testing.T, d *deployment) {
	for file := range documents(t) {
		name, ok := strings.CutPrefix(file, "docs/")
		if !ok {
			continue
		}
		got := d.raw(t, "", http.MethodGet, d.at.API+"/docs/guides/"+name, request{})
		if got.status != http.StatusOK || !strings.Contains(got.body, "<h1 ") || got.header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: got %d %.200s", name, got.status, got.body)
		}
	}
	if got := d.raw(t, "", http.MethodGet, d.at.API+"/docs/guides/", request{}); !strings.Contains(got.body, "security.md") {
		t.Errorf("the index of the guides: got %d %.200s", got.status, got.body)
	}
}
