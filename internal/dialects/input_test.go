package dialects

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// read decodes a body of a content type.
func read(t testing.TB, contentType, body string) (Input, error) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	return readInput(httptest.NewRecorder(), r)
}

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
		in, err := read(t, test.contentType, test.body)
		if err != nil {
			t.Errorf("%s %s: %v", test.contentType, test.body, err)
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
		if in, err := read(t, test.contentType, test.body); !errors.Is(err, errMalformed) {
			t.Errorf("%s %.40s: got %v, %v", test.contentType, test.body, in, err)
		}
	}
	_, err := read(t, "application/json", strings.Repeat(" ", maxBody+1))
	if failure, ok := errors.AsType[*Failure](err); !ok || failure.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: %v", err)
	}
	if _, err := read(t, "application/json", `{"a":1}`+strings.Repeat(" ", maxBody-7)); err != nil {
		t.Errorf("as large as may be: %v", err)
	}
}

// Who announces a body and does not send it holds a call no longer than a time.
func TestInputThatNeverComes(t *testing.T) {
	t.Parallel()
	errs := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := readBody(w, r, 20*time.Millisecond)
		errs <- err
	}))
	defer server.Close()
	body, write := io.Pipe()
	defer func() { _ = write.Close() }()
	go func() {
		res, err := server.Client().Post(server.URL, "application/json", body)
		if err == nil {
			_ = res.Body.Close()
		}
	}()
	if failure, ok := errors.AsType[*Failure](<-errs); !ok || failure.Status != http.StatusRequestTimeout {
		t.Errorf("got %v", failure)
	}
}

func TestInputFields(t *testing.T) {
	t.Parallel()
	in, err := read(t, "application/json", `{"text":"a","number":7,"float":1.5,"yes":true,"one":"1","no":"FALSE","null":null,
		"list":["a","b"],"mixed":["a",1],"empty":[],"map":{"A":"1","B":2},"bad":{"A":[]},"object":{"a":{}}}`)
	if err != nil {
		t.Fatal(err)
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

// FuzzInput: whatever comes is an object or an error that the client is to blame for.
func FuzzInput(f *testing.F) {
	f.Add("application/json", `{"a":[{"b":null}]}`)
	f.Add(formType, "a[]=1&a[b]=2&a[0][1]=3")
	f.Add("", "\xef\xbb\xbf{}")
	f.Fuzz(func(t *testing.T, contentType, body string) {
		in, err := read(t, contentType, body)
		if failure, ok := errors.AsType[*Failure](err); err != nil && !errors.Is(err, errMalformed) && (!ok || failure.Status/100 != 4) {
			t.Errorf("%q %q: %v", contentType, body, err)
		}
		if err == nil && in == nil {
			t.Errorf("%q %q: neither an object nor an error", contentType, body)
		}
	})
}
