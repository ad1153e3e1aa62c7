package dialects_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/dialects"
)

// vendor is a vendor with one public path that needs no key.
type vendor struct {
	*dialects.Vendor
	failed *dialects.Failure
}

func newVendor(method, path string, handler dialects.Handler) *vendor {
	v := &vendor{Vendor: dialects.New("test", dialects.Deps{Log: slog.New(slog.DiscardHandler)})}
	v.Fail = func(w http.ResponseWriter, f *dialects.Failure) {
		v.failed = f
		w.WriteHeader(f.Status)
	}
	v.Malformed = func(err error) *dialects.Failure { return dialects.BadRequest("malformed: %v", err) }
	v.HandlePublic(path, dialects.Methods{method: handler})
	return v
}

// read sends a body of a content type and returns it as its handler decodes it, or the failure.
func read(t testing.TB, contentType, body string) (in dialects.Input, failure *dialects.Failure) {
	t.Helper()
	v := newVendor(http.MethodPost, "/in", func(c *dialects.Call) (err error) {
		in, err = c.Input()
		return err
	})
	r := httptest.NewRequest(http.MethodPost, "/in", strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	v.ServeHTTP(httptest.NewRecorder(), r)
	return in, v.failed
}

// malformed reports whether a body was refused as neither JSON nor a form.
func malformed(f *dialects.Failure) bool {
	return f != nil && f.Status == http.StatusBadRequest && strings.HasPrefix(f.Message, "malformed: ")
}
