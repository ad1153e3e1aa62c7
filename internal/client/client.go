// Package client calls the native API, for the commands, the demo, the bench and tests: a route and a body come in, an answer or an error that holds
// what the server said goes out.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client speaks the JSON API of one server with one key.
type Client struct {
	base string // http://host:port
	Key  string
	HTTP *http.Client
}

// New makes a Client of a server (http://host:port).
func New(base, key string) *Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 1024}
	return &Client{base: base, Key: key, HTTP: &http.Client{Transport: transport, Timeout: time.Minute}}
}

// Close ends the idle connections.
func (c *Client) Close() { c.HTTP.CloseIdleConnections() }

// Do calls a route such as "GET /v1/events". It sends in as JSON, or as it is if it is bytes, and reads the answer into out; either may be nil. An answer
// other than 2xx is an error that holds what the server said.
func (c *Client) Do(ctx context.Context, route string, in, out any) error {
	method, path, _ := strings.Cut(route, " ")
	body, raw := in.([]byte)
	if in != nil && !raw {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("encode the body of %s: %w", route, err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.Key)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("%s: read the answer: %w", route, err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s: %s", route, resp.Status, bytes.TrimSpace(answer))
	}
	if out == nil || len(answer) == 0 {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s: decode the answer: %w", route, err)
	}
	return nil
}

// All reads a list to its end and calls each with every page's items.
func All[T any](ctx context.Context, c *Client, path string, each func(T)) error {
	cursor := ""
	for {
		var page struct {
			Data       []T     `json:"data"`
			NextCursor *string `json:"next_cursor"`
		}
		query := "?limit=500"
		if strings.Contains(path, "?") {
			query = "&limit=500"
		}
		if cursor != "" {
			query += "&cursor=" + url.QueryEscape(cursor)
		}
		if err := c.Do(ctx, "GET "+path+query, nil, &page); err != nil {
			return err
		}
		for _, item := range page.Data {
			each(item)
		}
		if page.NextCursor == nil || *page.NextCursor == "" {
			return nil
		}
		cursor = *page.NextCursor
	}
}
