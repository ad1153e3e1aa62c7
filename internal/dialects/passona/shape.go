package passona

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/fanfarehq/fanfare/internal/dialects"
	"github.com/fanfarehq/fanfare/subscriptions"
)

const contentType = "application/json"

// shownWebhook is Passona's JSON: these five keys and no others.
type shownWebhook struct {
	Name    string            `json:"name"`
	UUID    string            `json:"uuid"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Links   []link            `json:"links"`
}

type link struct {
	Rel string `json:"rel"`
	URI string `json:"uri"`
}

func show(c *dialects.Call, s *subscriptions.Subscription) shownWebhook {
	headers := s.Headers
	if headers == nil {
		headers = map[string]string{}
	}
	return shownWebhook{
		Name:    s.Name,
		UUID:    s.ID.String(),
		URL:     s.URL,
		Headers: headers,
		Links:   []link{{Rel: "self", URI: c.Base() + base + "/" + s.ID.String()}},
	}
}

func reply(c *dialects.Call, status int, s *subscriptions.Subscription) {
	dialects.Reply(c.W, status, contentType, struct {
		Data shownWebhook `json:"data"`
	}{show(c, s)})
}

// The sizes of a page.
const (
	defaultPerPage = 15
	maxPerPage     = 1000
)

// page is Laravel's paginator.
type page struct {
	Data  []shownWebhook `json:"data"`
	Links struct {
		First *string `json:"first"`
		Last  *string `json:"last"`
		Prev  *string `json:"prev"`
		Next  *string `json:"next"`
	} `json:"links"`
	Meta struct {
		CurrentPage int    `json:"current_page"`
		From        *int   `json:"from"`
		LastPage    int    `json:"last_page"`
		Path        string `json:"path"`
		PerPage     int    `json:"per_page"`
		To          *int   `json:"to"`
		Total       int    `json:"total"`
	} `json:"meta"`
}

// pageOf is the page that was asked for; its links name the page alone, as the vendor's do.
func pageOf(c *dialects.Call, all []*subscriptions.Subscription) page {
	asked := c.PageOf(len(all), dialects.Param{Name: "page", Standard: 1}, dialects.Param{Name: "per_page", Standard: defaultPerPage, Most: maxPerPage})
	path := c.Base() + base
	at := func(number int) *string {
		text := path + "?page=" + strconv.Itoa(number)
		return &text
	}
	p := page{Data: []shownWebhook{}}
	for _, s := range all[asked.From:asked.To] {
		p.Data = append(p.Data, show(c, s))
	}
	p.Links.First, p.Links.Last = at(1), at(asked.Last)
	if asked.Number > 1 {
		p.Links.Prev = at(asked.Number - 1)
	}
	if asked.Number < asked.Last {
		p.Links.Next = at(asked.Number + 1)
	}
	if asked.From < asked.To {
		first := asked.From + 1
		p.Meta.From, p.Meta.To = &first, &asked.To
	}
	p.Meta.CurrentPage, p.Meta.LastPage, p.Meta.Path = asked.Number, asked.Last, path
	p.Meta.PerPage, p.Meta.Total = asked.Size, len(all)
	return p
}

// words are Passona's, in Laravel's manner: headers.X-Env is one header.
func words() dialects.Words {
	return dialects.Words{
		Missing: func() *dialects.Failure { return dialects.NotFound(http.StatusText(http.StatusNotFound)) },
		Field:   func(path []string) string { return strings.Join(path, ".") },
	}
}

// failure is Laravel's JSON of a failure.
type failure struct {
	Message string              `json:"message"`
	Errors  map[string][]string `json:"errors,omitempty"`
}

func fail(w http.ResponseWriter, f *dialects.Failure) {
	out := failure{Message: f.Message}
	for _, e := range f.Fields {
		if out.Errors == nil {
			out.Errors = map[string][]string{}
		}
		out.Errors[e.Field] = append(out.Errors[e.Field], e.Message)
	}
	dialects.Reply(w, f.Status, contentType, out)
}

func required(name string) dialects.FieldError {
	return dialects.FieldError{Field: name, Message: "The " + name + " field is required."}
}
