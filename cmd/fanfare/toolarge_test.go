package main

import (
	"bytes"
	"net/http"
	"testing"
)

// Each operation that takes a body bounds it: a larger one is 413 in each of its media types.
func testTooLarge(t *testing.T, d *deployment) {
	const most = 4 << 20 // of events; what takes settings takes less
	tenant := unique("large-")
	key := d.key(t, tenant)
	body := bytes.Repeat([]byte(" "), most+1<<10)
	d.each(t, func(t *testing.T, o *operation) {
		m := makerOf(t, o)
		if m == nil || o.RequestBody == nil {
			return
		}
		valid, as := m(t, d, tenant), key
		if o.ofInstallation() {
			as = testAdminKey
		}
		for kind := range o.RequestBody.Content {
			r := request{path: valid.path, query: valid.query, body: body, header: http.Header{"Content-Type": {kind}}}
			if got := d.send(t, as, o, r); got.status != http.StatusRequestEntityTooLarge {
				t.Errorf("%s as %s: %d %.300s, want 413", o, kind, got.status, got.body)
			}
		}
	})
}
