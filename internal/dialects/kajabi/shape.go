package kajabi

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/fanfarehq/fanfare/internal/dialects"
	"github.com/fanfarehq/fanfare/subscriptions"
)

const (
	contentType = "application/vnd.api+json"
	// dateLayout has milliseconds and Z.
	dateLayout = "2006-01-02T15:04:05.000Z"
)

type document struct {
	Data hook `json:"data"`
}

type listDocument struct {
	Data  []hook `json:"data"`
	Links links  `json:"links"`
	Meta  meta   `json:"meta"`
}

type hook struct {
	ID            string        `json:"id"`
	Type          string        `json:"type"`
	Attributes    attributes    `json:"attributes"`
	Relationships relationships `json:"relationships"`
}

type attributes struct {
	Event      string `json:"event"`
	TargetURL  string `json:"target_url"`
	ResourceID any    `json:"resource_id"` // a number where it is all digits, else as given; null for every resource
	CreatedAt  string `json:"created_at"`
	UpdatedAt  string `json:"updated_at"`
}

type relationships struct {
	Site struct {
		Data resource `json:"data"`
	} `json:"site"`
}

type resource struct {
	ID   string `json:"id"`
	Type string `json:"type"`
}

func show(s *subscriptions.Subscription) hook {
	h := hook{
		ID:   strconv.Itoa(int(s.Number)),
		Type: "hooks",
		Attributes: attributes{
			Event:     s.EventTypes[0],
			TargetURL: s.URL,
			CreatedAt: s.CreatedAt.UTC().Format(dateLayout),
			UpdatedAt: s.UpdatedAt.UTC().Format(dateLayout),
		},
	}
	if s.ResourceID != "" {
		h.Attributes.ResourceID = s.ResourceID
		if n, err := strconv.ParseUint(s.ResourceID, 10, 53); err == nil && strconv.FormatUint(n, 10) == s.ResourceID {
			h.Attributes.ResourceID = n
		}
	}
	h.Relationships.Site.Data = resource{ID: s.Metadata[siteKey], Type: "sites"}
	return h
}

// words are pointers into the document that a client sends.
func words() dialects.Words {
	pointers := map[string]string{
		"url":         "/data/attributes/target_url",
		"event_types": "/data/attributes/event",
		"resource_id": "/data/attributes/resource_id",
		"metadata":    "/data/relationships/site",
	}
	return dialects.Words{
		Missing: func() *dialects.Failure { return dialects.NotFound("The hook does not exist.") },
		Field:   func(path []string) string { return pointers[path[0]] },
		Label:   func(pointer string) string { return pointer[strings.LastIndexByte(pointer, '/')+1:] },
	}
}

// read makes a subscription of a create document, and locates its errors by pointer.
func read(in dialects.Input) (s *subscriptions.Subscription, wrong []dialects.FieldError) {
	refuse := func(pointer, message string) {
		wrong = append(wrong, dialects.FieldError{Field: pointer, Message: message})
	}
	data := in.Object("data")
	given := data.Object("attributes")
	if data == nil || given == nil {
		refuse("", "data and data.attributes are required")
		return nil, wrong
	}
	if kind, _ := data.Text("type"); kind != "hooks" {
		refuse("/data/type", "type must be hooks")
	}
	s = &subscriptions.Subscription{Status: subscriptions.Active}
	s.URL, _ = given.Text("target_url")
	if s.URL == "" {
		refuse("/data/attributes/target_url", "target_url can't be blank")
	}
	event, _ := given.Text("event")
	s.EventTypes = []string{event}
	if event == "" {
		refuse("/data/attributes/event", "event can't be blank")
	} else if _, ok := events[event]; !ok {
		refuse("/data/attributes/event", "event is not included in the list")
	}
	if value := given["resource_id"]; value != nil {
		var ok bool
		if s.ResourceID, ok = given.Text("resource_id"); !ok {
			refuse("/data/attributes/resource_id", "resource_id must be a number or a string")
		}
	}
	site := data.Object("relationships").Object("site").Object("data")
	id, _ := site.Text("id")
	if kind, _ := site.Text("type"); id == "" || kind != "sites" {
		refuse("/data/relationships/site", "site must exist")
	}
	s.Metadata = map[string]string{siteKey: id}
	s.Name = nameOf(event, s.URL)
	return s, wrong
}

// nameOf names a hook for the native API, as the vendor has no names. It is cut to what a name may have.
func nameOf(event, target string) string {
	u, err := url.Parse(target)
	if err != nil || u.Hostname() == "" {
		return event
	}
	host := u.Hostname()
	return event + " → " + strings.ToValidUTF8(host[:min(len(host), 150)], "")
}

func reply(c *dialects.Call, status int, document any) {
	dialects.Reply(c.W, status, contentType, document)
}

// failure is one error of a JSON:API document; the status is a string there.
type failure struct {
	Status string  `json:"status"`
	Source *source `json:"source,omitempty"`
	Title  string  `json:"title"`
	Detail string  `json:"detail"`
}

type source struct {
	Pointer string `json:"pointer"`
}

func fail(w http.ResponseWriter, f *dialects.Failure) {
	if f.Code != "" { // the token endpoints are no JSON:API
		dialects.Reply(w, f.Status, "application/json", map[string]string{"error": f.Code})
		return
	}
	one := failure{Status: strconv.Itoa(f.Status), Title: http.StatusText(f.Status), Detail: f.Message}
	failures := []failure{one}
	if len(f.Fields) > 0 {
		failures = nil
		for _, field := range f.Fields {
			one.Source, one.Detail = &source{field.Field}, field.Message
			failures = append(failures, one)
		}
	}
	dialects.Reply(w, f.Status, contentType, struct {
		Errors []failure `json:"errors"`
	}{failures})
}

// pageOf reads the page that is asked for.
func pageOf(c *dialects.Call, total int) dialects.Page {
	return c.PageOf(total, dialects.Param{Name: "page[number]", Standard: 1}, dialects.Param{Name: "page[size]", Standard: 30, Most: 100})
}

type meta struct {
	TotalPages  int `json:"total_pages"`
	TotalCount  int `json:"total_count"`
	CurrentPage int `json:"current_page"`
	Total       int `json:"total"` // the same as TotalCount: clients read the one or the other
}

// links are URLs with literal brackets; prev and next only where there is such a page.
type links struct {
	Self    string `json:"self"`
	Current string `json:"current"`
	First   string `json:"first"`
	Prev    string `json:"prev,omitempty"`
	Next    string `json:"next,omitempty"`
	Last    string `json:"last"`
}

func linksOf(c *dialects.Call, p dialects.Page) links {
	kept := ""
	query := c.R.URL.Query()
	for _, name := range []string{"filter[event_eq]", "filter[site_id]", "filter[site_id_eq]"} {
		if value := query.Get(name); value != "" {
			kept += "&" + name + "=" + url.QueryEscape(value)
		}
	}
	at := func(number int) string {
		return c.Base() + c.R.URL.Path + "?page[number]=" + strconv.Itoa(number) + "&page[size]=" + strconv.Itoa(p.Size) + kept
	}
	l := links{Self: at(p.Number), Current: at(p.Number), First: at(1), Last: at(p.Last)}
	if p.Number > 1 {
		l.Prev = at(min(p.Number-1, p.Last))
	}
	if p.Number < p.Last {
		l.Next = at(p.Number + 1)
	}
	return l
}
