package postgres_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// host is the folder of the test server's socket, or its host.
func host(t *testing.T, own string) (host, rest string) {
	t.Helper()
	u, err := url.Parse(own)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	host = query.Get("host")
	query.Del("host")
	if host == "" {
		t.Fatalf("the test server is at %s, not at a socket", own)
	}
	return host, u.Path + "?" + query.Encode()
}

func TestOpenTakesLibpqsForms(t *testing.T) {
	t.Parallel()
	own := servertest.PostgresURL(t)
	socket, rest := host(t, own)
	encoded := url.QueryEscape(socket)
	nobody := url.QueryEscape(t.TempDir()) // no server is there
	for name, form := range map[string]string{
		"an encoded socket":         "postgres://" + encoded + rest,
		"two hosts, the first away": "postgres://" + nobody + ":5432," + encoded + ":5432" + rest,
		"two hosts, one read-write": "postgresql://" + encoded + "," + nobody + ":5432" + rest + "&target_session_attrs=read-write",
		"parameters of the client":  own + "&channel_binding=prefer&gssencmode=disable&keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3",
		"a parameter of the server": own + "&work_mem=8MB",
		"keywords and values":       keywords(t, own) + " gssencmode=prefer",
		"keep-alive off":            own + "&keepalives=0",
		"keep-alive by the default": own + "&keepalives_idle=0",
	} {
		db, err := postgres.Open(t.Context(), form, 2)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		db.Close()
	}
}

// keywords is the connection string in libpq's other form.
func keywords(t *testing.T, own string) string {
	t.Helper()
	u, err := url.Parse(own)
	if err != nil {
		t.Fatal(err)
	}
	pairs := []string{"dbname=" + strings.TrimPrefix(u.Path, "/")}
	for name, values := range u.Query() {
		pairs = append(pairs, name+"='"+values[0]+"'")
	}
	return strings.Join(pairs, " ")
}

func TestOpenNamesTheParameterThatItRefuses(t *testing.T) {
	t.Parallel()
	own := servertest.PostgresURL(t)
	for form, want := range map[string]string{
		own + "&channel_binding=require":  "channel_binding=require",
		own + "&gssencmode=require":       "gssencmode=require",
		own + "&keepalives_idle=soon":     "keepalives_idle",
		own + "&sslcrl=/tmp/x":            "sslcrl",
		own + "&no_such_parameter=1":      "no_such_parameter",
		"postgres://a:1,b:x/db":           "port of host \"b\"",
		"postgres://a:1,b:70000/db":       "port of host \"b\"",
		"postgres://a:1,b:2/db?gsslib=ab": "gsslib",
	} {
		db, err := postgres.Open(t.Context(), form, 1)
		if err == nil {
			db.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error that names %s", form, err, want)
		}
	}
}
