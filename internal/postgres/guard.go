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
//
// It also leaves the pool when its session cannot write any more, which the driver does not look at.
type guardedConn struct {
	pqConn
	net *boundedConn

	transactions *transactions // of its pool; nil without one

	stale  *staleness // of its pool; nil while it is set up
	full   *fullness  // of its pool; nil while it is set up
	opened time.Time
	broken bool // the session has answered that it is of no more use
}

func guard(conn driver.Conn, net *boundedConn) (*guardedConn, error) {
	full, ok := conn.(pqConn)
	if !ok {
		return nil, errors.Join(errors.New("the Postgres driver lacks a method that it had"), conn.Close())
	}
	return &guardedConn{pqConn: full, net: net}, nil
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

// judge looks at what the server answered, and returns it.
func (c *guardedConn) judge(err error) error {
	if c.full != nil {
		c.full.judge(err)
	}
	if endsSession(err) {
		c.broken = true
		if c.stale != nil {
			c.stale.report(time.Now())
		}
	}
	return err
}

// IsValid reports whether the connection may go back to the pool.
func (c *guardedConn) IsValid() bool {
	return !c.broken && (c.stale == nil || !c.stale.covers(c.opened)) && c.pqConn.IsValid()
}

// ResetSession is asked before the connection is used again.
func (c *guardedConn) ResetSession(ctx context.Context) error {
	if !c.IsValid() {
		return driver.ErrBadConn
	}
	return c.pqConn.ResetSession(ctx)
}

func (c *guardedConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	defer c.watch(ctx)()
	tx, err := c.pqConn.BeginTx(ctx, opts)
	if err == nil && c.transactions != nil {
		tx = c.transactions.begin(tx)
	}
	return tx, c.judge(err)
}

func (c *guardedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	defer c.watch(ctx)()
	result, err := c.pqConn.ExecContext(ctx, query, args)
	return result, c.judge(err)
}

func (c *guardedConn) Ping(ctx context.Context) error {
	defer c.watch(ctx)()
	return c.judge(c.pqConn.Ping(ctx))
}

func (c *guardedConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	defer c.watch(ctx)()
	stmt, err := c.pqConn.PrepareContext(ctx, query)
	if err != nil {
		return nil, c.judge(err)
	}
	full, ok := stmt.(pqStmt)
	if !ok { // COPY's statement takes no context; the connection of its transaction is watched.
		return stmt, nil
	}
	return &guardedStmt{full, c}, nil
}

func (c *guardedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	defer c.watch(ctx)()
	rows, err := c.pqConn.QueryContext(ctx, query, args)
	return rows, c.judge(err)
}

// pqStmt is all that the driver's prepared statement can do.
type pqStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// guardedStmt is a statement prepared on a guardedConn.
type guardedStmt struct {
	pqStmt
	conn *guardedConn
}

func (s *guardedStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	defer s.conn.watch(ctx)()
	result, err := s.pqStmt.ExecContext(ctx, args)
	return result, s.conn.judge(err)
}

func (s *guardedStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	defer s.conn.watch(ctx)()
	rows, err := s.pqStmt.QueryContext(ctx, args)
	return rows, s.conn.judge(err)
}
