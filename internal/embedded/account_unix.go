//go:build unix

package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is who the server runs as. Postgres refuses to run as root, so root runs it as somebody else.
type account struct {
	uid, gid int
	name     string
	// other says that it is not this process's own account.
	other bool
}

// chooseAccount says who runs the server and prepares the directories for it.
func chooseAccount(p paths) (account, error) {
	as := account{uid: os.Geteuid(), gid: os.Getegid()}
	owner, exists := ownerOf(p.data)
	switch {
	case as.uid != 0 && exists && owner != as.uid:
		return as, fmt.Errorf("%s belongs to user id %d, not to you (%d): start as that user or as root, "+
			"or set another FANFARE_DATA_DIR", p.data, owner, as.uid)
	case as.uid == 0 && exists && owner != 0:
		as = accountOf(owner)
	case as.uid == 0:
		var err error
		if as, err = unprivileged(); err != nil {
			return as, err
		}
	}
	if as.other {
		// The server gets no capability of root's: those that let it pass through directories let it read every file.
		if err := as.openPath(p.data); err != nil {
			return as, fmt.Errorf("the user %q, as whom Postgres must run, cannot reach %s: set a FANFARE_DATA_DIR that "+
				"every user may pass through, or FANFARE_POSTGRES_URL: %w", as.name, p.data, err)
		}
	}
	return as, as.makeDir(p.socket)
}

// ownerOf is the user id of the one that a file belongs to.
func ownerOf(name string) (uid int, exists bool) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return int(stat.Uid), ok
}

// unprivileged is the account that root runs the server as.
func unprivileged() (account, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.Atoi(u.Uid)
		if err == nil && uid != 0 {
			return accountOf(uid), nil
		}
	}
	return account{}, errors.New("Postgres does not run as root, and there is neither a user \"postgres\" nor \"nobody\": " +
		"start as an ordinary user, or set FANFARE_POSTGRES_URL")
}

func accountOf(uid int) account {
	as := account{uid: uid, gid: uid, name: strconv.Itoa(uid), other: true}
	if u, err := user.LookupId(as.name); err == nil {
		as.name = u.Username
		if gid, err := strconv.Atoi(u.Gid); err == nil {
			as.gid = gid
		}
	}
	return as
}

// openPath lets the account pass through every directory above the name that it could not pass through.
func (a account) openPath(name string) error {
	for dir := filepath.Dir(name); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if !a.passes(info) {
			if err := letThrough(dir, a.uid); err != nil {
				return err
			}
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// passes says whether the account may pass through a directory by the bits of its mode.
func (a account) passes(dir os.FileInfo) bool {
	bit := os.FileMode(0o001)
	if stat, ok := dir.Sys().(*syscall.Stat_t); ok && int(stat.Uid) == a.uid {
		bit = 0o100
	} else if ok && int(stat.Gid) == a.gid {
		bit = 0o010
	}
	return dir.Mode()&bit != 0
}

// makeDir makes a directory that is the account's alone.
func (a account) makeDir(name string) error {
	if err := os.MkdirAll(name, 0o700); err != nil {
		return fmt.Errorf("make a directory for Postgres: %w", err)
	}
	if !a.other {
		return nil
	}
	if err := os.Chown(name, a.uid, a.gid); err != nil {
		return fmt.Errorf("give %s to user %q, as whom Postgres must run: start as an ordinary user, "+
			"or set FANFARE_POSTGRES_URL: %w", name, a.name, err)
	}
	return nil
}

// spawn starts a command as the account, in a process group of its own so that Ctrl-C in the terminal
// reaches us alone, and bound to the life of this process.
func (a account) spawn(cmd *exec.Cmd) (*process, error) {
	cmd.Dir = "/"
	// Neither our settings nor libpq's variables are the server's business.
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = a.attributes()
	return spawn(cmd)
}

// run runs a command as the account until it ends or ctx does.
func (a account) run(ctx context.Context, cmd *exec.Cmd) error {
	proc, err := a.spawn(cmd)
	if err != nil {
		return err
	}
	select {
	case <-proc.done:
		return proc.err
	case <-ctx.Done():
		_ = cmd.Process.Kill() // ended already, or ends now
		<-proc.done
		return context.Cause(ctx)
	}
}
