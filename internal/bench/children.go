package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// stopTimeout is how long a process has to stop in.
const stopTimeout = 30 * time.Second

// child is another process of this binary.
type child struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	stderr *tail
	done   chan struct{} // closed when it has ended
	err    error         // of its end; read it after done
}

// startChild starts this binary with args. The settings of this process's environment are not passed on; env is.
// When ctx ends, the child is asked to stop, and made to after stopTimeout.
func startChild(ctx context.Context, env []string, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	c := &child{cmd: exec.CommandContext(ctx, self, args...), stderr: &tail{}, done: make(chan struct{})}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "FANFARE_") {
			c.cmd.Env = append(c.cmd.Env, v)
		}
	}
	c.cmd.Env = append(c.cmd.Env, env...)
	c.cmd.Stderr = c.stderr
	setApart(c.cmd)
	c.cmd.Cancel = func() error { return terminate(c.cmd.Process) }
	c.cmd.WaitDelay = stopTimeout + 5*time.Second
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.stdout = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start fanfare %s: %w", args[0], err)
	}
	return c, nil
}

// watch starts to wait for the child's end. It is called once nobody reads its standard output any more.
func (c *child) watch() {
	go func() {
		_, _ = io.Copy(io.Discard, c.stdout)
		c.err = c.cmd.Wait()
		close(c.done)
	}()
}

// stop asks the child to stop and waits for it. A child that ends with its input may have no ear for the signal any more,
// and be ended by it.
func (c *child) stop() error {
	_ = c.stdin.Close()
	_ = terminate(c.cmd.Process)
	<-c.done
	if exit, ok := errors.AsType[*exec.ExitError](c.err); ok {
		if wasTerminated(exit) {
			return nil
		}
	}
	return c.failure()
}

// failure is why the child ended, with what it said last; nil if all was well.
func (c *child) failure() error {
	if c.err == nil {
		return nil
	}
	return fmt.Errorf("fanfare %s: %w\n%s", c.cmd.Args[1], c.err, c.stderr)
}

// readLine reads one line of JSON that the child prints.
func (c *child) readLine(into any) error {
	line, err := c.stdout.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("fanfare %s ended early: %w\n%s", c.cmd.Args[1], err, c.stderr)
	}
	return json.Unmarshal(line, into)
}

// tail keeps the last few KiB that are written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	const keep = 4 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > keep {
		t.buf = append([]byte(nil), t.buf[len(t.buf)-keep:]...)
	}
	return len(p), nil
}

// String returns the kept bytes.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}
