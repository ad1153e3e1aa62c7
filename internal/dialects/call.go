package dialects

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/api"
)

// Call is one request to a vendor's API.
type Call struct {
	W      http.ResponseWriter
	R      *http.Request
	Caller api.Caller

	auth   *access.Grants
	params map[string]string
}

// authenticate reads the key or token from either of the headers that vendors use. A key over all tenants is nobody's
// account here, unless it names one in ?tenant=; a tenant's key may name its own there.
func (c *Call) authenticate() error {
	credential := c.R.Header.Get("X-Api-Key")
	if kind, rest, _ := strings.Cut(c.R.Header.Get("Authorization"), " "); credential == "" && strings.EqualFold(kind, "bearer") {
		credential = strings.TrimSpace(rest)
	}
	if credential == "" {
		return unauthorized()
	}
	caller, err := c.auth.Authenticate(c.R.Context(), credential)
	if err != nil {
		return err
	}
	named := c.R.URL.Query().Get("tenant")
	switch {
	case caller.Admin && !api.ValidTenant(named):
		return Forbidden("An admin key names the tenant in the query: ?tenant=")
	case caller.OverAll() && !api.ValidTenant(named):
		return Forbidden("A key over all tenants names the tenant in the query: ?tenant=")
	case caller.OverAll():
		caller.Tenant = named
	case caller.Tenant == "" || named != "" && named != caller.Tenant:
		return Forbidden("The key belongs to another tenant.")
	}
	c.Caller = caller
	return nil
}

// Input decodes the body; see Input.
func (c *Call) Input() (Input, error) { return readInput(c.W, c.R) }

// UUID is the path's id; false if it is malformed, which clients cannot tell from an id that does not exist.
func (c *Call) UUID(name string) (uuid.UUID, bool) {
	id, err := uuid.Parse(c.params[name])
	return id, err == nil && len(c.params[name]) == 36
}

// Number is the path's id as a whole number of 64 bits; false if it is malformed.
func (c *Call) Number(name string) (int64, bool) {
	n, err := strconv.ParseInt(c.params[name], 10, 64)
	return n, err == nil
}

// Page is which part of a list is asked for: rows From to To, both from 0, To not included.
type Page struct{ Number, Size, From, To, Last int }

// PageOf reads the number and the size of a page from the query. Whatever is absent, no number or less than 1 is the
// first page and the standard size.
func (c *Call) PageOf(total int, number, size Param) Page {
	p := Page{Number: c.atLeastOne(number), Size: c.atLeastOne(size)}
	p.Last = max(1, (total+p.Size-1)/p.Size)
	if p.Number > p.Last { // Beyond the end; a product could overflow.
		p.From, p.To = total, total
		return p
	}
	p.From = (p.Number - 1) * p.Size
	p.To = min(p.From+p.Size, total)
	return p
}

// Param is a number in the query. Most is 0 where there is no bound.
type Param struct {
	Name           string
	Standard, Most int
}

func (c *Call) atLeastOne(p Param) int {
	n, err := strconv.Atoi(c.R.URL.Query().Get(p.Name))
	if err != nil || n < 1 {
		return p.Standard
	}
	if p.Most > 0 {
		n = min(n, p.Most)
	}
	return n
}

// Base is the public address by which the client reached us, without a path. X-Forwarded-Proto and X-Forwarded-Host are
// those of trusted proxies: see api.ProxyConfig.
func (c *Call) Base() string {
	scheme, host := "http", c.R.Host
	if c.R.TLS != nil || strings.EqualFold(c.R.Header.Get("X-Forwarded-Proto"), "https") {
		scheme = "https"
	}
	if forwarded := c.R.Header.Get("X-Forwarded-Host"); forwarded != "" && !strings.ContainsAny(forwarded, "/\\?#@, ") {
		host = forwarded
	}
	return scheme + "://" + host
}

// Reply writes value as JSON of the given content type; slashes and angle brackets stay as they are.
func Reply(w http.ResponseWriter, status int, contentType string, value any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(err) // Vendors' shapes are structs of texts and numbers.
	}
	write(w, status, contentType, bytes.TrimSuffix(body.Bytes(), []byte("\n")))
}

func write(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone: there is nobody to tell
}

// ReplyRaw writes JSON that is there already.
func ReplyRaw(w http.ResponseWriter, contentType string, body []byte) {
	write(w, http.StatusOK, contentType, body)
}
