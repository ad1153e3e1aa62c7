package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"sync"
	"time"
)

// grace is how long after its context's end a statement may take to be cancelled by the server.
const grace = time.Second

// pqConn is all that the driver's connection can do.
type pqConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
}

// guardedConn makes contexts hold. When one ends, the driver asks the server to cancel and then waits for its
// answer without end, so that one server that hangs holds every caller and the whole pool. Here, the connection
// is cut a little later.
type guardedConn struct {
	pqConn
	net *boundedConn
}

func guard(conn driver.Conn, net *boundedConn) (driver.Conn, error) {
	full, ok := conn.(pqConn)
	if !ok {
		return nil, errors.Join(errors.New("the Postgres driver lacks a method that it had"), conn.Close())
	}
	return &guardedConn{full, net}, nil
}

// watch cuts the connection when ctx ends before release is called.
func (c *guardedConn) watch(ctx context.Context) (release func()) {
	var mu sync.Mutex
	released := false
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		if !released {
			c.net.setLimit(time.Now().Add(grace))
		}
	})
	return func() {
		if stop() {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		released = true
		c.net.setLimit(time.Time{})
	}
}

func (c *guardedConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	defer c.watch(ctx)()
	return c.pqConn.BeginTx(ctx, opts)
}

func (c *guardedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	defer c.watch(ctx)()
	return c.pqConn.ExecContext(ctx, query, args)
}

func (c *guardedConn) Ping(ctx context.Context) error {
	defer c.watch(ctx)()
	return c.pqConn.Ping(ctx)
}

func (c *guardedConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	defer c.watch(ctx)()
	return c.pqConn.PrepareContext(ctx, query)
}

func (c *guardedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	defer c.watch(ctx)()
	return c.pqConn.QueryContext(ctx, query, args)
}
