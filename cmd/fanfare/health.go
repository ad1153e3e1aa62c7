package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/fanfarehq/fanfare/internal/running"
	"github.com/fanfarehq/fanfare/internal/terminal"
)

// healthCmd is a health check for images without a shell: it asks a process of this machine or container.
type healthCmd struct {
	Ready   bool          `help:"Ask /readyz instead of /healthz: may traffic be sent to the process?"`
	Timeout time.Duration `default:"5s" help:"How long the answer may take."`
}

// Run prints the answer. Its error, and so the exit code 1, means that the process is not alive or not ready.
func (cmd healthCmd) Run(ctx context.Context, c *terminal.Terminal) error {
	var s serverConfig
	if err := readEnvironment([]section{{"server", &s}}); err != nil {
		return err
	}
	base, err := opsURL(s)
	if err != nil {
		return err
	}
	path := "/healthz"
	if cmd.Ready {
		path = "/readyz"
	}
	ctx, cancel := context.WithTimeout(ctx, cmd.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // No proxy: the process is on this machine.
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("FANFARE_OPS_ADDR: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", base+path, err)
	}
	fmt.Fprintf(c.Out, "%s\n", bytes.TrimSpace(answer))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", base+path, resp.Status)
	}
	return nil
}

// opsURL is where a process with these settings serves operations. A port 0 is that of a `fanfare all` which runs with the
// data directory; an address of all interfaces is reached over loopback.
func opsURL(s serverConfig) (string, error) {
	host, port, err := net.SplitHostPort(s.OpsAddr)
	if err != nil {
		return "", err
	}
	if port == "0" {
		at, err := running.Read(s.DataDir)
		if errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("FANFARE_OPS_ADDR has port 0, and no fanfare all runs with FANFARE_DATA_DIR=%s", s.DataDir)
		}
		return at.Ops, err
	}
	switch ip := net.ParseIP(host); {
	case host == "", ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	return "http://" + net.JoinHostPort(host, port), nil
}
