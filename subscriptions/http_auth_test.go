package subscriptions_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/seal"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Each type of auth: what may be given, what is shown of it, and that it reaches who sends.
func TestAuth(t *testing.T) {
	t.Parallel()
	s := serve(t)
	dir := s.dir
	for given, shown := range map[string]string{
		`{"type":"basic","username":"us er","password":"hidden: é"}`: `{"type":"basic","username":"us er"}`,
		`{"type":"bearer","token":"hidden"}`:                         `{"type":"bearer"}`,
		`{"type":"oauth2","token_url":"https://login.example.com/token","client_id":"me","client_secret":"hidden","scopes":["a","b","a"]}`: `{"type":"oauth2","token_url":"https://login.example.com/token","client_id":"me","scopes":["a","b"]}`,
		`null`: `null`,
	} {
		id, made := s.post(t, "acme", with("auth", given))
		read := s.want(t, 200, "reader GET /v1/subscriptions/"+id, "")
		list := s.want(t, 200, "reader GET /v1/subscriptions?limit=1", "")
		var want any
		if err := json.Unmarshal([]byte(shown), &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(made.body["auth"], want) || !reflect.DeepEqual(read.body["auth"], want) {
			t.Errorf("%s: shown as %v and %v", given, made.body["auth"], read.body["auth"])
		}
		if strings.Contains(made.text+read.text+list.text, "hidden") {
			t.Errorf("%s: a secret is shown in %s %s %s", given, made.text, read.text, list.text)
		}
		if _, err := dir.Fresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if sub, ok := dir.Get(uuid.MustParse(id)); !ok || sub.Err != nil || (sub.Auth == nil) != (given == "null") ||
			sub.Auth != nil && sub.Auth.Password+sub.Auth.Token+sub.Auth.ClientSecret == "" {
			t.Errorf("%s: in the directory %+v", given, sub)
		}
	}
	var stored string
	if err := s.db.QueryRow(`SELECT string_agg(subscriptions::text || encode(secrets, 'escape'), '') FROM subscriptions`).Scan(&stored); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(stored, "hidden") || strings.Contains(stored, "login.example.com") {
		t.Error("the database holds a secret in the clear")
	}
}

// A patch changes what it names; another type begins anew; null clears.
func TestAuthPatch(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id, _ := s.post(t, "acme", with("auth", `{"type":"basic","username":"a","password":"one"}`))
	for _, step := range []struct {
		patch string
		want  *subscriptions.Auth
	}{
		{`{"auth":{"username":"b"}}`, &subscriptions.Auth{Type: subscriptions.AuthBasic, Username: "b", Password: "one"}},
		{`{"auth":{"type":"basic","password":"two"}}`, &subscriptions.Auth{Type: subscriptions.AuthBasic, Username: "b", Password: "two"}},
		{`{"description":"d"}`, &subscriptions.Auth{Type: subscriptions.AuthBasic, Username: "b", Password: "two"}},
		{`{"auth":{"type":"bearer","token":"t"}}`, &subscriptions.Auth{Type: subscriptions.AuthBearer, Token: "t"}},
		{`{"auth":null}`, nil},
		{`{"auth":{"type":"oauth2","token_url":"http://127.0.0.1:80/t","client_id":"c","client_secret":"s","scopes":["x"]}}`,
			&subscriptions.Auth{Type: subscriptions.AuthOAuth2, TokenURL: "http://127.0.0.1:80/t", ClientID: "c", ClientSecret: "s", Scopes: []string{"x"}}},
		{`{"auth":{"scopes":null,"token_url":"https://MÜNCHEN.example/t"}}`,
			&subscriptions.Auth{Type: subscriptions.AuthOAuth2, TokenURL: "https://xn--mnchen-3ya.example/t", ClientID: "c", ClientSecret: "s"}},
	} {
		s.want(t, 200, "acme PATCH /v1/subscriptions/"+id, step.patch)
		sub, err := s.store.Get(t.Context(), "acme", uuid.MustParse(id))
		if err != nil || !reflect.DeepEqual(sub.Auth, step.want) || len(sub.Secrets) != 1 {
			t.Errorf("%s: got %+v, %v", step.patch, sub.Auth, err)
		}
	}
	s.want(t, 202, "acme POST /v1/subscriptions/"+id+"/rotate-secret", `{}`)
	if sub, err := s.store.Get(t.Context(), "acme", uuid.MustParse(id)); err != nil || sub.Auth == nil || len(sub.Secrets) != 2 {
		t.Errorf("after a rotation: %+v, %v", sub, err)
	}
	for patch, location := range map[string]string{
		`{"auth":{"client_secret":null}}`:            "body.auth.client_secret",
		`{"auth":{"password":"x"}}`:                  "body.auth.password",
		`{"auth":{"type":"basic"}}`:                  "body.auth.username body.auth.password",
		`{"auth":{"type":null}}`:                     "body.auth.type",
		`{"headers":{"authorization":"x"}}`:          "body.headers.authorization",
		`{"auth":{"fingerprint":"x"}}`:               "body.auth.fingerprint",
		`{"auth":{"token_url":"http://10.0.0.1/t"}}`: "body.auth.token_url",
	} {
		if r := s.want(t, 422, "acme PATCH /v1/subscriptions/"+id, patch); r.locations() != location {
			t.Errorf("%s: got %s", patch, r.text)
		}
	}
}

func TestAuthNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := serve(t)
	long := func(n int) string { return strings.Repeat("x", n) }
	for auth, want := range map[string]string{
		`{}`:               "type",
		`"basic"`:          "",
		`{"type":"mtls"}`:  "type",
		`{"type":"basic"}`: "username password",
		`{"type":"basic","username":"a:b","password":"hidden"}`:                "username",
		`{"type":"basic","username":"a","password":"hidden\u000a"}`:            "password",
		`{"type":"basic","username":"` + long(257) + `","password":"hidden"}`:  "username",
		`{"type":"basic","username":"a","password":"` + long(1025) + `"}`:      "password",
		`{"type":"basic","username":"a","password":5}`:                         "password",
		`{"type":"basic","username":"a","password":"hidden","token":"hidden"}`: "token",
		`{"type":"basic","username":"a","password":"hidden","scopes":["x"]}`:   "scopes",
		`{"type":"basic","username":"a","password":"hidden","hidden":1}`:       "hidden",
		`{"type":"bearer"}`:                                  "token",
		`{"type":"bearer","token":"hid den"}`:                "token",
		`{"type":"bearer","token":"hidden\u000d\u000aX: y"}`: "token",
		`{"type":"bearer","token":"hidd\u00e9n"}`:            "token",
		`{"type":"bearer","token":"` + long(4097) + `"}`:     "token",
		`{"type":"oauth2"}`:                                  "token_url client_id client_secret",
		`{"type":"oauth2","token_url":"ftp://a.example/","client_id":"a","client_secret":"hidden"}`:                        "token_url",
		`{"type":"oauth2","token_url":"https://169.254.169.254/","client_id":"a","client_secret":"hidden"}`:                "token_url",
		`{"type":"oauth2","token_url":"https://u:hidden@a.example/","client_id":"a","client_secret":"b"}`:                  "token_url",
		`{"type":"oauth2","token_url":"https://a.example/","client_id":"\u0001","client_secret":"hidden"}`:                 "client_id",
		`{"type":"oauth2","token_url":"https://a.example/","client_id":"a","client_secret":"hidden\u007f"}`:                "client_secret",
		`{"type":"oauth2","token_url":"https://a.example/","client_id":"a","client_secret":"b","scopes":["a","b c","\""]}`: "scopes[1] scopes[2]",
	} {
		var locations []string
		for field := range strings.FieldsSeq(want) {
			locations = append(locations, "body.auth."+field)
		}
		if want == "" {
			locations = []string{"body.auth"}
		}
		r := s.call(t, "acme POST /v1/subscriptions", with("auth", auth))
		if r.status != 422 || r.locations() != strings.Join(locations, " ") {
			t.Errorf("%.100s: %d %s, want %q", auth, r.status, r.text, locations)
		}
		if strings.Contains(strings.ReplaceAll(r.text, "body.auth.hidden", ""), "hid") {
			t.Errorf("%.100s: the answer repeats it: %s", auth, r.text)
		}
	}
	both := with("headers", `{"AUTHORIZATION":"Bearer x"},"auth":{"type":"bearer","token":"x"}`)
	if r := s.want(t, 422, "acme POST /v1/subscriptions", both); r.locations() != "body.headers.AUTHORIZATION" {
		t.Errorf("auth and a header: %s", r.text)
	}
}

// identity makes a certificate that signs itself, and its key.
func identity(t testing.TB, key crypto.Signer, notAfter time.Time) (certificate, private string) {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "fan", Organization: []string{"Acme"}}, NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return encodePEM("CERTIFICATE", der), encodePEM("PRIVATE KEY", pkcs8)
}

func encodePEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func ecdsaKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// presented is the field's JSON.
func presented(certificate, key string) string {
	text, _ := json.Marshal(map[string]string{"certificate": certificate, "key": key})
	return string(text)
}

func TestClientCertificate(t *testing.T) {
	t.Parallel()
	s := serve(t)
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	certificate, key := identity(t, ecdsaKey(t, elliptic.P256()), expires)
	block, _ := pem.Decode([]byte(certificate))
	sum := sha256.Sum256(block.Bytes)
	want := map[string]any{"subject": "CN=fan,O=Acme", "fingerprint": hex.EncodeToString(sum[:]), "expires_at": expires.Format(time.RFC3339)}
	// Beside auth, and with what openssl prints around it.
	id, made := s.post(t, "acme", with("client_certificate", presented("Bag Attributes\n"+certificate+"\n\n", key)+`,"auth":{"type":"bearer","token":"t"}`))
	read := s.want(t, 200, "reader GET /v1/subscriptions/"+id, "")
	if !reflect.DeepEqual(made.body["client_certificate"], want) || !reflect.DeepEqual(read.body["client_certificate"], want) || read.body["auth"] == nil {
		t.Errorf("shown as %v and %v, want %v", made.body["client_certificate"], read.body["client_certificate"], want)
	}
	if strings.Contains(made.text+read.text, "PRIVATE KEY") {
		t.Error("the key is shown")
	}
	stored := func() *subscriptions.ClientCertificate {
		sub, err := s.store.Get(t.Context(), "acme", uuid.MustParse(id))
		if err != nil {
			t.Fatal(err)
		}
		return sub.Certificate
	}
	if got := stored(); got == nil || got.Certificate != certificate || got.Key != key {
		t.Errorf("stored: %+v", got)
	}
	if pair, err := stored().TLS(); err != nil || pair.Leaf == nil {
		t.Errorf("it cannot be used: %v", err)
	}
	other, otherKey := identity(t, rsaKey(t, 2048), expires)
	if r := s.want(t, 422, "acme PATCH /v1/subscriptions/"+id, `{"client_certificate":`+presented(other, "")+`}`); r.locations() != "body.client_certificate.key" {
		t.Errorf("without a key: %s", r.text)
	}
	s.want(t, 200, "acme PATCH /v1/subscriptions/"+id, `{"client_certificate":`+presented(other, otherKey)+`}`)
	s.want(t, 200, "acme PATCH /v1/subscriptions/"+id, `{"name":"m"}`)
	if got := stored(); got == nil || got.Certificate != other {
		t.Errorf("after a patch: %+v", got)
	}
	if r := s.want(t, 422, "acme PATCH /v1/subscriptions/"+id, `{"url":"http://example.com/"}`); r.locations() != "body.auth body.client_certificate" {
		t.Errorf("over http: %s", r.text)
	}
	if r := s.want(t, 200, "acme PATCH /v1/subscriptions/"+id, `{"client_certificate":null}`); r.body["client_certificate"] != nil || r.body["auth"] == nil || stored() != nil {
		t.Errorf("cleared: %s", r.text)
	}
}

func TestClientCertificateNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := serve(t)
	later := time.Now().Add(time.Hour)
	ec := ecdsaKey(t, elliptic.P256())
	good, goodKey := identity(t, ec, later)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edCert, edKey := identity(t, ed, later)
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	parameters := encodePEM("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7})
	old, oldKey := identity(t, ecdsaKey(t, elliptic.P384()), time.Now().Add(-time.Minute))
	odd, oddKey := identity(t, ecdsaKey(t, elliptic.P224()), later)
	weak := rsaKey(t, 1024)
	weakCert, weakKey := identity(t, weak, later)
	const c, k = "body.client_certificate.certificate", "body.client_certificate.key"
	for i, tc := range []struct{ certificate, key, want string }{
		{good, goodKey, ""},
		{good, encodePEM("EC PRIVATE KEY", sec1), ""},
		{good, parameters + encodePEM("EC PRIVATE KEY", sec1), ""},
		{strings.Repeat(good, 10), goodKey, ""},
		{edCert, edKey, ""},
		{"", "", c + " " + k},
		{"x", "x", c + " " + k},
		{good, goodKey + goodKey, k},
		{good, edKey, k},
		{good, good, k},
		{goodKey, goodKey, c},
		{good + goodKey, goodKey, c},
		{strings.Repeat(good, 11), goodKey, c},
		{strings.Repeat("x", 65<<10), goodKey, c},
		{good, strings.Repeat("x", 17<<10), k},
		{good + "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n", goodKey, c},
		{encodePEM("CERTIFICATE", []byte("x")), goodKey, c},
		{good, encodePEM("PRIVATE KEY", []byte("x")), k},
		{good, encodePEM("ENCRYPTED PRIVATE KEY", []byte("x")), k},
		{old, oldKey, c},
		{odd, oddKey, c},
		{weakCert, weakKey, c},
	} {
		r := s.call(t, "acme POST /v1/subscriptions", with("client_certificate", presented(tc.certificate, tc.key)))
		if r.locations() != tc.want || (r.status == 201) != (tc.want == "") {
			t.Errorf("case %d: %d %s, want %q", i, r.status, r.text, tc.want)
		}
	}
	if r := s.want(t, 422, "acme POST /v1/subscriptions", with("client_certificate", `{}`)); r.locations() != c+" "+k {
		t.Errorf("nothing: %s", r.text)
	}
}

// A certificate that has expired since it was saved does not keep its subscription from being changed.
func TestExpiredCertificateCanStay(t *testing.T) {
	t.Parallel()
	s := serve(t)
	var certificate, key string
	var saved reply
	for life := 2 * time.Second; saved.status != 201; life *= 2 { // A slow machine may save it too late.
		if life > time.Minute {
			t.Fatalf("not saved: %s", saved.text)
		}
		certificate, key = identity(t, ecdsaKey(t, elliptic.P256()), time.Now().Add(life))
		saved = s.call(t, "acme POST /v1/subscriptions", with("client_certificate", presented(certificate, key)))
	}
	shown := saved.body["client_certificate"].(map[string]any)
	expires, err := time.Parse(time.RFC3339, fmt.Sprint(shown["expires_at"]))
	if err != nil {
		t.Fatal(err)
	}
	<-time.After(time.Until(expires))
	id := fmt.Sprint(saved.body["id"])
	s.want(t, 200, "acme PATCH /v1/subscriptions/"+id, `{"name":"m"}`)
	if r := s.want(t, 422, "acme POST /v1/subscriptions", with("client_certificate", presented(certificate, key))); r.locations() != "body.client_certificate.certificate" {
		t.Errorf("a new one: %s", r.text)
	}
}

// Auth and certificate are sealed with the secrets: the same keys are demanded, and rekey seals them anew.
func TestRekeyAuth(t *testing.T) {
	t.Parallel()
	b := setup(t)
	certificate, key := identity(t, ecdsaKey(t, elliptic.P256()), time.Now().Add(time.Hour))
	made := plain("acme", "a")
	made.URL = "https://example.com/"
	made.Auth = &subscriptions.Auth{Type: subscriptions.AuthBasic, Username: "u", Password: "p"}
	made.Certificate = &subscriptions.ClientCertificate{Certificate: certificate, Key: key}
	b.create(t, made)
	fresh := seal.NewKey()
	id, _, _ := strings.Cut(fresh, ":")
	ring, err := seal.ParseRing(fresh + "," + b.key)
	if err != nil {
		t.Fatal(err)
	}
	if done, err := subscriptions.New(b.db, ring, policy).Rekey(t.Context(), nil); err != nil || done != 1 {
		t.Fatalf("rekeyed %d, %v", done, err)
	}
	if err := b.store.CheckKeys(t.Context()); err == nil || !strings.Contains(err.Error(), id) {
		t.Errorf("the new key is not missed: %v", err)
	}
	after, err := subscriptions.New(b.db, ring, policy).Get(t.Context(), "acme", made.ID)
	if err != nil || !reflect.DeepEqual(after.Auth, made.Auth) || !reflect.DeepEqual(after.Certificate, made.Certificate) || len(after.Secrets) != 1 {
		t.Errorf("got %+v, %v", after, err)
	}
}

// What does not open is not written over by a change of auth; a new secret makes room.
func TestAuthBesideBrokenSecrets(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id, _ := s.post(t, "acme", least)
	if _, err := s.db.Exec(`UPDATE subscriptions SET secrets = secrets || 'x'`); err != nil {
		t.Fatal(err)
	}
	const auth = `{"auth":{"type":"bearer","token":"t"}}`
	s.want(t, 409, "acme PATCH /v1/subscriptions/"+id, auth)
	s.want(t, 202, "acme POST /v1/subscriptions/"+id+"/rotate-secret", `{}`)
	if r := s.want(t, 200, "acme PATCH /v1/subscriptions/"+id, auth); fmt.Sprint(r.body["auth"]) != "map[type:bearer]" {
		t.Errorf("got %s", r.text)
	}
}

func TestContentTypeNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for given, want := range map[string]string{
		`"application/json; charset=utf-8"`:    "",
		`""`:                                   "",
		`"json"`:                               "body.content_type",
		`"application/"`:                       "body.content_type",
		`"a/b; ="`:                             "body.content_type",
		`"a/b\u000aX: y"`:                      "body.content_type",
		`"a/` + strings.Repeat("b", 300) + `"`: "body.content_type",
		`"a/b","headers":{"content-type":"text/plain"}`: "body.headers.content-type",
	} {
		if r := s.call(t, "acme POST /v1/subscriptions", with("content_type", given)); r.locations() != want || (r.status == 201) != (want == "") {
			t.Errorf("%s: %d %s", given, r.status, r.text)
		}
	}
}
