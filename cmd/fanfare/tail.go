package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/fanfarehq/fanfare/internal/running"
	"github.com/fanfarehq/fanfare/internal/terminal"
)

// tailCmd shows outcomes as they happen.
type tailCmd struct {
	API          string `name:"api" help:"Where the API is; by default that of a fanfare all that runs with this data directory."`
	Key          string `help:"A key; by default FANFARE_ADMIN_KEY, else the admin key of the data directory."`
	Tenant       string `help:"Only outcomes of this tenant."`
	Subscription string `help:"Only outcomes of this subscription."`
	State        string `enum:",pending,delivered,dead,cancelled" default:"" help:"Only outcomes that led to this state."`
}

// Run watches until it is stopped, or the server sends it away.
func (cmd tailCmd) Run(ctx context.Context, c *terminal.Terminal) error {
	s, err := readSettings()
	if err != nil {
		return err
	}
	if err := cmd.find(s); err != nil {
		return err
	}
	query := url.Values{}
	for name, value := range map[string]string{"tenant": cmd.Tenant, "subscription": cmd.Subscription, "state": cmd.State} {
		if value != "" {
			query.Set(name, value)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, cmd.API+"/v1/tail?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+cmd.Key)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
		return errors.Join(fmt.Errorf("GET /v1/tail: %s: %s", resp.Status, strings.TrimSpace(string(answer))), err)
	}
	return printTail(resp.Body, c.Out, isTerminal(c.Out))
}

// find fills in where the API is and the key.
func (cmd *tailCmd) find(s *settings) error {
	if cmd.API == "" {
		cmd.API = "http://" + s.server.Addr
		if at, err := running.Read(s.server.DataDir); err == nil && at.API != "" {
			cmd.API = at.API
		}
	}
	if cmd.Key == "" {
		cmd.Key = s.access.AdminKey
	}
	if cmd.Key == "" {
		key, err := os.ReadFile(filepath.Join(s.server.DataDir, adminKeyFile))
		if err != nil {
			return errors.Join(errors.New("no --key and no FANFARE_ADMIN_KEY"), err)
		}
		cmd.Key = strings.TrimSpace(string(key))
	}
	return nil
}

// isTerminal reports whether colours would be seen.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == ""
}

// tailed holds the shown fields of an outcome.
type tailed struct {
	Number     int       `json:"number"`
	StartedAt  time.Time `json:"started_at"`
	DurationMS int64     `json:"duration_ms"`
	Status     *int      `json:"status"`
	Error      *string   `json:"error"`
	Reason     string    `json:"reason"`
	EventID    string    `json:"event_id"`
	EventType  string    `json:"event_type"`
	Delivery   string    `json:"delivery_id"`
	Tenant     string    `json:"tenant"`
	State      string    `json:"state"`
}

// errTailEnded says that the server ended the tail.
var errTailEnded = errors.New("the server ended the tail")

// errTailDropped says that this reader was too slow.
var errTailDropped = errors.New("more happened than could be shown: the server dropped this reader")

// printTail prints one line for each outcome.
func printTail(from io.Reader, to io.Writer, coloured bool) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	event := ""
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case name == "event":
			event = value
		case name == "data" && event == "dropped":
			return errTailDropped
		case name == "data":
			var t tailed
			if err := json.Unmarshal([]byte(value), &t); err != nil {
				return fmt.Errorf("read an outcome: %w", err)
			}
			if _, err := fmt.Fprintln(to, t.line(coloured)); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the tail: %w", err)
	}
	return errTailEnded
}

// line is one outcome, its state coloured: green, red, yellow, or grey for cancelled.
func (t tailed) line(coloured bool) string {
	state := fmt.Sprintf("%-9s", t.State)
	if colour, ok := map[string]string{"delivered": "32", "dead": "31", "pending": "33", "cancelled": "90"}[t.State]; ok && coloured {
		state = "\x1b[" + colour + "m" + state + "\x1b[0m"
	}
	status := "  -"
	if t.Status != nil {
		status = fmt.Sprintf("%3d", *t.Status)
	}
	line := fmt.Sprintf("%s  %s  %s  %5d ms  #%d  %-14s  %s  %s  %s", t.StartedAt.Local().Format("15:04:05.000"), state, status,
		t.DurationMS, t.Number, t.Reason, t.Tenant, t.EventType, t.EventID)
	if t.Error != nil {
		line += "  " + strings.Map(printable, *t.Error)
	}
	return line
}

// printable keeps what a receiver said from steering the terminal.
func printable(r rune) rune {
	if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
		return -1
	}
	return r
}
