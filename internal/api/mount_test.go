package api_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/internal/api"
)

func raw(max int64, timeout time.Duration) huma.Operation {
	return huma.Operation{
		Method: "POST", Path: "/raw", OperationID: "raw", MaxBodyBytes: max, BodyReadTimeout: timeout,
		RequestBody: &huma.RequestBody{Content: map[string]*huma.MediaType{"application/x-ndjson": {}}},
	}
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		api.WriteError(w, r, fmt.Errorf("read events: %w", err))
		return
	}
	fmt.Fprintf(w, "%s %d", api.CallerFrom(r.Context()).Tenant, len(body))
}

func TestMountedHandlerIsGuarded(t *testing.T) {
	t.Parallel()
	h := serve(t, func(a huma.API) { api.Mount(a, raw(10, 0), http.HandlerFunc(echo), api.Scope("things:write")) })
	for _, tc := range []struct {
		key, what, body string
		status          int
	}{
		{"acme", "POST /raw", "0123456789", 200},
		{"acme", "POST /raw", "01234567890", 413},
		{"", "POST /raw", "", 401},
		{"reader", "POST /raw", "", 403},
		{"acme", "POST /raw?tenant=other", "", 403},
		{"acme", "GET /raw", "", 405},
	} {
		if a := h.call(t, tc.key, tc.what, tc.body); a.status != tc.status {
			t.Errorf("%s %q: want %d, got %d %s", tc.what, tc.body, tc.status, a.status, a.body)
		} else if a.status == 200 && a.body != "acme 10" {
			t.Errorf("got %s", a.body)
		}
	}
	doc := h.doc.OpenAPI().Paths["/raw"].Post
	if doc.Extensions[api.ScopeExtension] != "things:write" || doc.Responses["413"] == nil || doc.Responses["401"] == nil {
		t.Errorf("the document says %+v", doc)
	}
}

// dial sends bytes as they are and reads one answer.
func (h *harness) dial(t *testing.T, request string) (*http.Response, net.Conn) {
	t.Helper()
	conn, err := net.Dial("tcp", h.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp, conn
}

const head = "POST %s HTTP/1.1\r\nHost: x\r\nX-API-Key: acme\r\nContent-Type: application/json\r\n"

func TestBodiesThatAreNotSentAsPromised(t *testing.T) {
	t.Parallel()
	h := serve(t, func(a huma.API) {
		things(a)
		api.Mount(a, raw(1<<20, 0), http.HandlerFunc(echo), api.Scope("things:write"))
		late := raw(1<<20, 50*time.Millisecond)
		late.Path, late.OperationID = "/late", "late"
		api.Mount(a, late, http.HandlerFunc(echo), api.Scope("things:write"))
		slow := op("POST", "/slow", api.Scope("things:write"))
		slow.BodyReadTimeout = 50 * time.Millisecond
		huma.Register(a, slow, func(context.Context, *thingIn) (*struct{}, error) { return nil, nil })
	})
	for _, tc := range []struct {
		name, request string
		status        int
	}{
		{"announced too large", fmt.Sprintf(head, "/v1/things") + "Content-Length: 1000000000\r\n\r\n", 413},
		{"announced too large, raw", fmt.Sprintf(head, "/raw") + "Content-Length: 1000000000\r\n\r\n", 413},
		{"waits for leave", fmt.Sprintf(head, "/raw") + "Content-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n", 413},
		{"never comes, huma", fmt.Sprintf(head, "/slow") + "Content-Length: 100\r\n\r\n{", 408},
		{"never comes, raw", fmt.Sprintf(head, "/late") + "Content-Length: 100\r\n\r\n{", 408},
		{"chunked too large", fmt.Sprintf(head, "/raw") + "Transfer-Encoding: chunked\r\n\r\n200000\r\n" + strings.Repeat("a", 0x200000) + "\r\n0\r\n\r\n", 413},
		{"bad chunk", fmt.Sprintf(head, "/raw") + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
		{"bad chunk, huma", fmt.Sprintf(head, "/v1/things") + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
		{"two lengths", fmt.Sprintf(head, "/raw") + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
		{"large header", fmt.Sprintf(head, "/raw") + "X-Large: " + strings.Repeat("a", 100<<10) + "\r\n\r\n", 431},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if resp, _ := h.dial(t, tc.request); resp.StatusCode != tc.status {
				t.Errorf("want %d, got %d", tc.status, resp.StatusCode)
			}
		})
	}
}

// The deadline for reading the body must not end the request of an operation that takes longer than that.
func TestReadDeadlineEndsWithTheBody(t *testing.T) {
	t.Parallel()
	const timeout = 300 * time.Millisecond
	outlive := func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * timeout): // the deadline is the network's, on the real clock
			return nil
		}
	}
	h := serve(t, func(a huma.API) {
		api.Mount(a, raw(0, timeout), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(r.Body); err != nil {
				t.Error(err)
			}
			if err := outlive(r.Context()); err != nil {
				t.Errorf("raw: %v", err)
			}
		}), api.Scope("things:write"))
		slow := op("POST", "/slow", api.Scope("things:write"))
		slow.BodyReadTimeout = timeout
		huma.Register(a, slow, func(ctx context.Context, _ *thingIn) (*struct{}, error) {
			if err := outlive(ctx); err != nil {
				t.Errorf("huma: %v", err)
			}
			return nil, nil
		})
	})
	for _, path := range []string{"/raw", "/slow"} {
		if a := h.call(t, "acme", "POST "+path, `{"name":"a","url":"u"}`); a.status >= 300 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}

func TestPanicInTheMiddleCutsTheConnection(t *testing.T) {
	t.Parallel()
	h := serve(t, func(a huma.API) {
		api.Mount(a, huma.Operation{Method: "GET", Path: "/x"}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "half")
			panic("now")
		}), api.Public())
	})
	resp, err := h.Client().Get(h.URL + "/x")
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
	}
	if err == nil {
		t.Error("the half answer is taken for the whole")
	}
	if !strings.Contains(h.log.text(), "request panicked") {
		t.Error("nothing in the log")
	}
}

func TestStreamsReachTheClient(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	h := serve(t, func(a huma.API) {
		api.Mount(a, huma.Operation{Method: "GET", Path: "/x"}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "first")
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			select {
			case <-next:
			case <-r.Context().Done():
			}
		}), api.Public())
	})
	resp, err := h.Client().Get(h.URL + "/x")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	buf := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "first" {
		t.Errorf("got %q, %v", buf, err)
	}
	close(next)
}
