package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// Serve answers on the listener until ctx ends, then lets the requests that are being answered finish, at most for drain.
func Serve(ctx context.Context, listener net.Listener, server *http.Server, drain time.Duration) error {
	unused := &unusedConns{set: map[net.Conn]bool{}}
	server.ConnState = unused.note
	var why error
	done := make(chan struct{})
	go func() {
		defer close(done)
		why = server.Serve(listener)
	}()
	select {
	case <-done:
		return fmt.Errorf("serve on %s: %w", listener.Addr(), why)
	case <-ctx.Done():
	}
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	_ = listener.Close()
	<-done // Nothing new comes, and Shutdown does not close the listener once more, which would be an error.
	unused.close()
	if err := server.Shutdown(finish); err != nil {
		return errors.Join(fmt.Errorf("stop serving on %s: %w", listener.Addr(), err), server.Close())
	}
	return nil
}

// unusedConns are connections that have not brought a byte yet. Clients open some ahead, and Shutdown would wait
// five seconds for what they may bring.
type unusedConns struct {
	mu  sync.Mutex
	set map[net.Conn]bool
}

func (u *unusedConns) note(c net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if state == http.StateNew {
		u.set[c] = true
	} else {
		delete(u.set, c)
	}
}

func (u *unusedConns) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for c := range u.set {
		_ = c.Close()
	}
}
