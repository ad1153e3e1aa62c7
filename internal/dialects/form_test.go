package dialects_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// Forms are read as PHP reads them.
func TestForms(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ body, want string }{
		{"", `{}`},
		{"name=a&url=https%3A%2F%2Fx.test%2F", `{"name":"a","url":"https://x.test/"}`},
		{"name=a+b", `{"name":"a b"}`},
		{"attributes[0]=email&attributes[1]=firstname", `{"attributes":["email","firstname"]}`},
		{"attributes%5B1%5D=b&attributes%5B0%5D=a", `{"attributes":["a","b"]}`},
		{"attributes[]=email&attributes[]=firstname", `{"attributes":["email","firstname"]}`},
		{"headers[X-A]=1&headers[X-B]=2", `{"headers":{"X-A":"1","X-B":"2"}}`},
		{"a[b][c]=1", `{"a":{"b":{"c":"1"}}}`},
		{"a=1&a=2", `{"a":"2"}`},
		{"a=1&a[b]=2", `{"a":{"b":"2"}}`},
		{"a[b]=2&a=1", `{"a":"1"}`},
		{"a[5]=x&a[]=y", `{"a":["x","y"]}`},
		{"a[b=1", `{"a[b":"1"}`},
		{"0=x", `{"0":"x"}`},
		{"a", `{"a":""}`},
	} {
		form, failure := read(t, formType, test.body)
		if failure != nil {
			t.Errorf("%s: %v", test.body, failure)
			continue
		}
		got, err := json.Marshal(form)
		if err != nil || string(got) != test.want {
			t.Errorf("%s: got %s, %v, want %s", test.body, got, err, test.want)
		}
	}
}

func TestFormsAreBounded(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		strings.Repeat("a=1&", 2000),
		"a" + strings.Repeat("[b]", 100) + "=1",
		"a=%zz",
		"%zz=a",
	} {
		if form, failure := read(t, formType, body); !malformed(failure) {
			t.Errorf("%.20s...: got %v, %v, want an error", body, form, failure)
		}
	}
}
