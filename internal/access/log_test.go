package access_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// Who may call the API changes with a line in the log, without the secret.
func TestKeysMadeAndRevokedAreLogged(t *testing.T) {
	t.Parallel()
	log := &bytes.Buffer{}
	p := start(t, servertest.Postgres(t), func(_ *access.Config, deps *access.Deps) { deps.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	var made struct{ ID, Key string }
	if status := p.call(t, adminKey, "POST /v1/keys", `{"tenant":"acme","name":"shop","scopes":["events:write"]}`, &made); status != 201 {
		t.Fatalf("status %d", status)
	}
	if status := p.call(t, adminKey, "DELETE /v1/keys/"+made.ID, "", nil); status != 204 {
		t.Fatalf("status %d", status)
	}
	for _, want := range []string{`msg="key made" key=` + made.ID + ` tenant=acme name=shop scopes=[events:write]`, `msg="key revoked" key=` + made.ID} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no line has %s:\n%s", want, log)
		}
	}
	if strings.Contains(log.String(), made.Key) {
		t.Error("the log has the key")
	}
}
