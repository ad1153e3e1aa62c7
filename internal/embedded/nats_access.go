package embedded

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	natsUser     = "fanfare"
	natsKeyFile  = "nats.key"
	publishers   = "PUBLISHERS" // the account of clients without credentials
	publishScope = "events.>"
)

// LocalPrefix comes before the subjects of messages from clients without credentials, so that they reach Fanfare
// and not the stream: "local.events.>".
const LocalPrefix = "local."

// natsKey reads the password of the embedded server from a data directory, or makes it.
func natsKey(dir string) (string, error) {
	path := filepath.Join(dir, natsKeyFile)
	content, err := os.ReadFile(path)
	if err == nil {
		if key := strings.TrimSpace(string(content)); key != "" {
			return key, nil
		}
		return "", fmt.Errorf("%s is empty: remove it, and the next start makes another", path)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the password of the embedded NATS: %w", err)
	}
	key := rand.Text()
	if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep the password of the embedded NATS: %w", err)
	}
	return key, nil
}

// NATSURL is the URL, with credentials, of the server that listens on host:port and keeps its data in dir. Without a
// password in dir, the URL has none.
func NATSURL(dir, listen string) (string, error) {
	content, err := os.ReadFile(filepath.Join(dir, natsKeyFile))
	if errors.Is(err, os.ErrNotExist) {
		return "nats://" + listen, nil
	}
	if err != nil {
		return "", fmt.Errorf("read the password of the embedded NATS: %w", err)
	}
	return (&url.URL{Scheme: "nats", Host: listen, User: url.UserPassword(natsUser, strings.TrimSpace(string(content)))}).String(), nil
}

// doorman decides what a client of the embedded server may do: everything with the password, publishing events without
// credentials, if that is open at all.
type doorman struct {
	key   string
	open  bool          // to publishers without credentials
	ready chan struct{} // closed when the accounts below are set
	own   *server.Account
	guest *server.Account
}

// Check is called for each client that connects.
func (d *doorman) Check(c server.ClientAuthentication) bool {
	<-d.ready
	opts := c.GetOpts()
	if d.own == nil {
		return false // The server is about to stop.
	}
	if opts.Username == natsUser && subtle.ConstantTimeCompare([]byte(opts.Password), []byte(d.key)) == 1 {
		c.RegisterUser(&server.User{Username: natsUser, Account: d.own})
		return true
	}
	if !d.open || opts.Username != "" || opts.Password != "" || opts.Token != "" || opts.Nkey != "" || opts.JWT != "" {
		return false
	}
	c.RegisterUser(&server.User{Account: d.guest, Permissions: &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{publishScope}},
		Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
	}})
	return true
}

// admit gives publishers an account of their own, which reaches one service: to publish events, which arrive below
// LocalPrefix. They share no subject with Fanfare's account, so that no inbox of Fanfare's can be listened to.
func (d *doorman) admit(s *server.Server) error {
	defer close(d.ready)
	own := s.GlobalAccount()
	guest, err := s.RegisterAccount(publishers)
	if err != nil {
		return fmt.Errorf("make the account of publishers: %w", err)
	}
	if err := own.AddServiceExport(LocalPrefix+publishScope, []*server.Account{guest}); err != nil {
		return fmt.Errorf("open %s to publishers: %w", publishScope, err)
	}
	if err := guest.AddServiceImport(own, publishScope, LocalPrefix+publishScope); err != nil {
		return fmt.Errorf("open %s to publishers: %w", publishScope, err)
	}
	d.own, d.guest = own, guest
	return nil
}
