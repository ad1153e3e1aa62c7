package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// testFaults holds the API against the entries of the fault catalogue that are to be refused on save, by their numbers. The
// packages that judge have tests of every form; here are some of each, where a client meets them.
func testFaults(t *testing.T, d *deployment) {
	key := d.key(t, unique("faults-"))
	quote := func(text string) string {
		b, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	subscription := func(field string) string {
		base := map[string]string{"name": `"n"`, "url": `"https://a.invalid/"`, "event_types": `["a"]`}
		name, value, _ := strings.Cut(field, "=")
		base[name] = value
		var parts []string
		for name, value := range base {
			parts = append(parts, quote(name)+":"+value)
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	faults := map[string][]string{
		// F108: what no header, event type or id can hold.
		"F108 body.headers": {`headers={"X-A":"a\r\nX-B: b"}`, `headers={"X-A":"ü"}`, `headers={"X\r\nY":"a"}`, `headers={"Ü":"a"}`,
			`headers={"X-A":"` + strings.Repeat("x", 8<<10) + `"}`, `headers={"` + strings.Repeat("x", 8<<10) + `":"a"}`},
		"F108 body.event_types[0]": {`event_types=["a\r\nb"]`, `event_types=["ü"]`, `event_types=["` + strings.Repeat("a", 8<<10) + `"]`},
		"F108 body.name":           {`name="a\r\nb"`},
		// F111: URLs that mean something else than they show.
		"F111 body.url": nil,
		// F112: addresses that no worker may reach.
		"F112 body.url": nil,
		// F124: fields that are not the caller's.
		"F124 body": {`id="0198c0de-7a3c-7000-8000-5f1e2d3c4b5a"`, `number=1`, `tenant_id="x"`, `version="V2"`, `disabled_reason="x"`, `created_at="2026-01-01T00:00:00Z"`,
			`updated_at="2026-01-01T00:00:00Z"`, `dialect="leat"`, `scopes=["*"]`, `revision=1`, `deleted=true`, `secrets=[]`, `public_key="x"`},
	}
	// F109: headers that frame the message, belong to the connection, or are Fanfare's.
	for _, name := range []string{"Host", "Content-Length", "Transfer-Encoding", "Connection", "Webhook-Id", "webhook-signature", "webhook-timestamp",
		"Idempotency-Key", "Proxy-Authorization", "Upgrade", "TE", "Trailer", "ce-id"} {
		faults["F109 body.headers."+name] = []string{"headers={" + quote(name) + `:"x"}`}
	}
	for _, raw := range []string{"https://user:pw@a.invalid/", "http://[::]/", "http://[::ffff:10.0.0.1]/", "http://0/", "http://0xa.1/", "http://①⓪.⓪.⓪.①/",
		"http://１０.0.0.1/", "https://a.invalid/\t", "https://a.invalid\\@b.invalid/", "https://a.invalid/#f", "https://a.invalid:0/", "https://a.invalid:99999/",
		"http://a.invalid:22/", "http://a.invalid:6379/", "http://[fe80::1%25eth0]/", "https://a%00.invalid/", "https://a.invalid/" + strings.Repeat("x", 100_000),
		"file:///etc/passwd", "gopher://a.invalid/", "//a.invalid/", "https:///x"} {
		faults["F111 body.url"] = append(faults["F111 body.url"], "url="+quote(raw))
	}
	for _, host := range []string{"10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "0.0.0.0",
		"224.0.0.1", "255.255.255.255", "[fd00:ec2::254]", "[fe80::1]", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]", "[2001:0:1::]", "[::169.254.169.254]", "2852039166", "0xa9fea9fe",
		"0251.0376.0251.0376"} {
		faults["F112 body.url"] = append(faults["F112 body.url"], "url="+quote("http://"+host+"/"))
	}
	for fault, fields := range faults {
		number, location, _ := strings.Cut(fault, " ")
		for _, field := range fields {
			got := d.raw(t, key, "POST", d.at.API+"/v1/subscriptions", request{body: []byte(subscription(field))})
			name, _, _ := strings.Cut(field, "=")
			want := location
			if location == "body" {
				want += "." + name
			}
			if got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, `"location":"`+want) {
				t.Errorf("%s: %.100s: want 422 at %s, got %d %.300s", number, field, want, got.status, got.body)
			}
		}
	}
	for _, field := range []string{`headers={"X-A":"a\u0000"}`, `event_types=["a\u0000"]`, `name="a\u0000"`} { // Nothing takes U+0000.
		if got := d.raw(t, key, "POST", d.at.API+"/v1/subscriptions", request{body: []byte(subscription(field))}); got.status != http.StatusBadRequest {
			t.Errorf("F108: %s got %d %s", field, got.status, got.body)
		}
	}
	// F110: ids of events are what a signature joins with dots.
	for _, id := range []string{"a.b", "a b", "a\nb", "", "ü", "a,b", strings.Repeat("a", 64<<10)} {
		body := []byte(`{"type":"a","data":1,"id":` + quote(id) + `}`)
		if got := d.raw(t, key, "POST", d.at.API+"/v1/events", request{body: body}); got.status != http.StatusUnprocessableEntity {
			t.Errorf("F110: the id %.20q got %d %.200s", id, got.status, got.body)
		}
	}
	d.checkShownText(t, key, subscription)
}

// checkShownText is F121 and F122: text that would be a script or a line of a log elsewhere is kept as text. Answers say that
// they are no page, and let nothing run.
func (d *deployment) checkShownText(t *testing.T, key string, subscription func(string) string) {
	t.Helper()
	const script = `<svg onload=alert(1)>`
	var sub identified
	d.call(t, key, "POST /v1/subscriptions", []byte(subscription(`name="`+script+`"`)), 201).decode(t, &sub)
	for _, path := range []string{"/v1/subscriptions/" + sub.ID, "/v1/subscriptions?q=" + url.QueryEscape(script), "/v1/nothing/" + url.PathEscape(script)} {
		got := d.raw(t, key, "GET", d.at.API+path, request{})
		if kind := got.header.Get("Content-Type"); !strings.HasPrefix(kind, "application/") || !strings.Contains(kind, "json") ||
			got.header.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(got.header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("F121: %s answers with %v", path, got.header)
		}
	}
	// F122: no value may hold what begins another line; \u001b begins what colours a terminal.
	for _, field := range []string{`name="a\nlevel=ERROR"`, `name="\u001b[31m"`, `resource_id="a\nb"`, `changed=["a\u001b"]`, `metadata={"a\n":"b"}`} {
		if got := d.raw(t, key, "POST", d.at.API+"/v1/subscriptions", request{body: []byte(subscription(field))}); got.status != http.StatusUnprocessableEntity {
			t.Errorf("F122: %s got %d", field, got.status)
		}
	}
}
