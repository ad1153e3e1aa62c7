package dialects_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/dialects"
)

const formType = "application/x-www-form-urlencoded"

// A body is decoded as what it is, whatever it is called.
func TestInputIsDecodedAsWhatItIs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ contentType, body, want string }{
		{"application/json", `{"a":1}`, `{"a":1}`},
		{"application/vnd.api+json", `{"a":1}`, `{"a":1}`},
		{"application/json-patch+json", `{"a":1}`, `{"a":1}`},
		{"application/json; charset=utf-8", ` {"a":1} `, `{"a":1}`},
		{"text/plain", `{"a":1}`, `{"a":1}`},
		{"", `{"a":1}`, `{"a":1}`},
		{"", "\xef\xbb\xbf{\"a\":1}", `{"a":1}`},
		{formType, `{"a":1}`, `{"a":1}`}, // curl --data, with no header of its own
		{formType, `a=1&b[]=2`, `{"a":"1","b":["2"]}`},
		{formType + "; charset=UTF-8", `a=1`, `{"a":"1"}`},
		{formType, ``, `{}`},
		{"application/json", ``, `{}`},
		{"application/json", `[]`, `{}`}, // PHP's empty object
		{"application/json", `{"a":1e999,"b":12345678901234567890}`, `{"a":1e999,"b":12345678901234567890}`},
	} {
		in, failure := read(t, test.contentType, test.body)
		if failure != nil {
			t.Errorf("%s %s: %v", test.contentType, test.body, failure)
			continue
		}
		if got, _ := json.Marshal(in); string(got) != test.want {
			t.Errorf("%s %s: got %s, want %s", test.contentType, test.body, got, test.want)
		}
	}
}

func TestInputIsRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ contentType, body string }{
		{"application/json", `{"a":`}, {"application/json", `{"a":1}}`}, {"application/json", `{"a":1}]`}, {"application/json", `{} {}`},
		{"application/json", `{"a":1} x`}, {"application/json", `[1]`}, {"application/json", `"text"`}, {"application/json", `null`},
		{"application/json", `a=1`}, {"", `a=1`}, {"application/json", "{\"a\":\"\x00\"}"},
		{"application/json", strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65)},
		{"application/json", strings.Repeat("[", 100_000)},
		{formType, "a=%zz"}, {formType, strings.Repeat("a=1&", 2000)},
	} {
		if in, failure := read(t, test.contentType, test.body); !malformed(failure) {
			t.Errorf("%s %.40s: got %v, %v", test.contentType, test.body, in, failure)
		}
	}
	const most = 256 << 10
	if _, failure := read(t, "application/json", strings.Repeat(" ", most+1)); failure == nil || failure.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: %v", failure)
	}
	if _, failure := read(t, "application/json", `{"a":1}`+strings.Repeat(" ", most-7)); failure != nil {
		t.Errorf("as large as may be: %v", failure)
	}
}

// A client that announces a body and does not send it holds a call no longer than a time.
func TestInputThatNeverComes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVendor(http.MethodPost, "/in", func(c *dialects.Call) error {
			_, err := c.Input()
			return err
		})
		client, conn := net.Pipe() // Its deadlines are by the clock of the test.
		accepted := &oneConn{conns: make(chan net.Conn, 1)}
		accepted.conns <- conn
		server := &http.Server{Handler: api.ReadOn(v)} // as the process does
		defer func() { _ = server.Close() }()
		go func() { _ = server.Serve(accepted) }()
		defer client.Close()
		_ = client.SetDeadline(time.Now().Add(time.Minute))
		start := time.Now()
		if _, err := io.WriteString(client, "POST /in HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if waited := time.Since(start); res.StatusCode != http.StatusRequestTimeout || waited != 15*time.Second {
			t.Errorf("answered %d after %s, want %d after 15s", res.StatusCode, waited, http.StatusRequestTimeout)
		}
	})
}

// oneConn accepts one connection.
type oneConn struct {
	conns chan net.Conn
	close sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	conn, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (l *oneConn) Close() error {
	l.close.Do(func() { close(l.conns) })
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

func TestInputFields(t *testing.T) {
	t.Parallel()
	in, failure := read(t, "application/json", `{"text":"a","number":7,"float":1.5,"yes":true,"one":"1","no":"FALSE","null":null,
		"list":["a","b"],"mixed":["a",1],"empty":[],"map":{"A":"1","B":2},"bad":{"A":[]},"object":{"a":{}}}`)
	if failure != nil {
		t.Fatal(failure)
	}
	for name, want := range map[string]string{"text": "a", "number": "7", "float": "1.5", "one": "1"} {
		if got, ok := in.Text(name); got != want || !ok {
			t.Errorf("%s: got %q, %v", name, got, ok)
		}
	}
	for _, name := range []string{"null", "list", "map", "yes", "absent"} {
		if got, ok := in.Text(name); ok || got != "" {
			t.Errorf("%s is a text: %q", name, got)
		}
	}
	for name, want := range map[string]bool{"yes": true, "one": true, "no": false} {
		if got, ok := in.Bool(name); got != want || !ok {
			t.Errorf("%s: got %v, %v", name, got, ok)
		}
	}
	for _, name := range []string{"text", "number", "null", "absent"} {
		if _, ok := in.Bool(name); ok {
			t.Errorf("%s is a boolean", name)
		}
	}
	if n, ok := in.Int("number"); n != 7 || !ok {
		t.Errorf("got %d, %v", n, ok)
	}
	for _, name := range []string{"float", "text", "absent"} {
		if _, ok := in.Int(name); ok {
			t.Errorf("%s is a whole number", name)
		}
	}
	for name, want := range map[string][]string{"list": {"a", "b"}, "text": {"a"}, "empty": nil, "null": nil, "absent": nil} {
		if got, ok := in.Texts(name); !slices.Equal(got, want) || !ok {
			t.Errorf("%s: got %v, %v", name, got, ok)
		}
	}
	for _, name := range []string{"mixed", "map", "yes"} {
		if _, ok := in.Texts(name); ok {
			t.Errorf("%s is a list of texts", name)
		}
	}
	if m, ok := in.TextMap("map"); !ok || len(m) != 2 || m["B"] != "2" {
		t.Errorf("got %v, %v", m, ok)
	}
	for name, want := range map[string]bool{"empty": true, "null": true, "absent": true, "list": false, "bad": false, "text": false} {
		if m, ok := in.TextMap(name); ok != want || len(m) != 0 {
			t.Errorf("%s: got %v, %v", name, m, ok)
		}
	}
	if in.Object("object").Object("a") == nil || in.Object("absent").Object("a") != nil || in.Object("list") != nil {
		t.Error("objects")
	}
	if !in.Has("null") || in.Gives("null") || in.Has("absent") || !in.Gives("text") {
		t.Error("what was sent")
	}
}

// FuzzInput: any body becomes an object that can be written as JSON, or an error that the client is to blame for.
func FuzzInput(f *testing.F) {
	f.Add("application/json", `{"a":[{"b":null}]}`)
	f.Add(formType, "a[]=1&a[b]=2&a[0][1]=3")
	f.Add(formType, "attributes[0]=email&attributes[1]=firstname")
	f.Add(formType, "a[][b]=1&a[][c]=2&a[99999999999999999999]=3")
	f.Add(formType, "a[=1&]=2&[x]=3&a]b[c]=4")
	f.Add("", "\xef\xbb\xbf{}")
	f.Fuzz(func(t *testing.T, contentType, body string) {
		in, failure := read(t, contentType, body)
		if failure != nil {
			if failure.Status/100 != 4 {
				t.Errorf("%q %q: %v", contentType, body, failure)
			}
			return
		}
		if in == nil {
			t.Errorf("%q %q: neither an object nor an error", contentType, body)
		}
		if _, err := json.Marshal(in); err != nil {
			t.Errorf("%q %q: %v", contentType, body, err)
		}
	})
}
