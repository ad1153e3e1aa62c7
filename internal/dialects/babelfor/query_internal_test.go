// The parser of queries is tested inside: a hundred cases over three rows of its own are quicker and say more than lists over HTTP.

package babelfor

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

type row struct {
	id     int64
	name   string
	active bool
	note   any
	at     time.Time
}

var rowFields = fields[row]{
	"id":        {name: "id", kind: intKind, get: func(r *row) any { return r.id }},
	"name":      {name: "name", kind: textKind, get: func(r *row) any { return r.name }},
	"isactive":  {name: "isActive", kind: boolKind, get: func(r *row) any { return r.active }},
	"note":      {name: "note", kind: textKind, get: func(r *row) any { return r.note }},
	"createdat": {name: "createdAt", kind: timeKind, get: func(r *row) any { return r.at }},
}

func rows() []row {
	day := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return []row{
		{1, "Alpha", true, nil, day},
		{2, "Beta", false, "it's", day.AddDate(0, 0, 1)},
		{3, "Alpine", true, "b", day.AddDate(0, 0, 2)},
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ query, want string }{
		{"", "1,2,3 of 3"},
		{"filter=IsActive == true", "1,3 of 2"},
		{"filter=isActive", "1,3 of 2"},
		{"filter=!IsActive", "2 of 1"},
		{"filter=not (isActive eq true)", "2 of 1"},
		{"filter=isActive eq true and name eq 'Alpha'", "1 of 1"},
		{"filter=IsActive = true && Name = \"Alpine\"", "3 of 1"},
		{"filter=id gt 1 and id le 3", "2,3 of 2"},
		{"filter=id <> 2", "1,3 of 2"},
		{"filter=id == 1 || id == 2 && name == \"x\"", "1 of 1"},
		{"filter=(id == 1 || id == 2) && name == \"Beta\"", "2 of 1"},
		{"filter=Name.StartsWith(\"Alp\")", "1,3 of 2"},
		{"filter=startswith(name,'Alp')", "1,3 of 2"},
		{"filter=contains(name,'et')", "2 of 1"},
		{"filter=Name.EndsWith(\"ine\")", "3 of 1"},
		{"filter=note eq null", "1 of 1"},
		{"filter=note != null", "2,3 of 2"},
		{"filter=note gt 'a'", "2,3 of 2"},
		{"filter=note eq 'it''s'", "2 of 1"},
		{`filter=note == "it\'s"`, "2 of 1"},
		{"filter=createdAt ge 2026-03-02T00:00:00Z", "2,3 of 2"},
		{"filter=CreatedAt > \"2026-03-02\"", "2,3 of 2"},
		{"sort=name desc", "2,3,1 of 3"},
		{"sort=-createdAt,id", "3,2,1 of 3"},
		{"sort=note", "1,3,2 of 3"},
		{"sort=isActive descending, Id descending", "3,1,2 of 3"},
		{"take=1&skip=1", "2 of 3"},
		{"take=0", " of 3"},
		{"skip=2147483647", " of 3"},
	} {
		values, err := url.ParseQuery(strings.NewReplacer("+", "%2B", "&&", "%26%26").Replace(test.query))
		if err != nil {
			t.Fatal(err)
		}
		q, err := parseQuery(values, rowFields, "id")
		if err != nil {
			t.Errorf("%s: %v", test.query, err)
			continue
		}
		page, total := q.page(q.filter(rows()))
		ids := make([]string, len(page))
		for i, r := range page {
			ids[i] = fmt.Sprint(r.id)
		}
		if got := fmt.Sprintf("%s of %d", strings.Join(ids, ","), total); got != test.want {
			t.Errorf("%s: got %s, want %s", test.query, got, test.want)
		}
	}
}

func TestQueryRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ query, want string }{
		{"filter=secret eq 'x'", "unknown field"},
		{"filter=id", "a comparison"},
		{"filter=id eq", "is no number"},
		{"filter=id eq 'x'", "is no number"},
		{"filter=id eq 99999999999999999999", "is no number"},
		{"filter=isActive gt true", "only == and !="},
		{"filter=id gt null", "only == and !="},
		{"filter=name.Drop('x')", "unknown function"},
		{"filter=id.Contains('x')", "only a text"},
		{"filter=name eq 'x", "has no end"},
		{"filter=(id eq 1", "expected \")\""},
		{"filter=id eq 1)", "expected the end"},
		{"filter=id eq 1 id eq 2", "expected the end"},
		{"filter=== 1", "a field"},
		{"filter=id eq 1;drop", "unexpected"},
		{"filter=" + strings.Repeat("(", 50) + "id eq 1" + strings.Repeat(")", 50), "deeper"},
		{"filter=" + strings.Repeat("!", 150) + "isActive", "deeper"},
		{"filter=" + strings.Repeat("x", 3000), "longer"},
		{"filter=" + strings.Repeat("id eq 1 or ", 60) + "id eq 1", "more than"},
		{"sort=secret", "unknown field"},
		{"sort=id sideways", "asc or desc"},
		{"sort=,", "asc or desc"},
		{"select=secret", "unknown field"},
		{"include=everything", "unknown collection"},
		{"take=-1", "no number"},
		{"skip=x", "no number"},
		{"take=2147483648", "no number"},
	} {
		values, err := url.ParseQuery(strings.ReplaceAll(test.query, ";", "%3B"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseQuery(values, rowFields, "id"); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.60s: got %v, want %q in it", test.query, err, test.want)
		}
	}
}

func TestSelectPrintsTheVendorsSpelling(t *testing.T) {
	t.Parallel()
	for _, src := range []string{"id,isactive", "new (Id, IsActive)", "new(ID,ISACTIVE)"} {
		got, err := parseSelect(src, rowFields)
		if err != nil || fmt.Sprint(got) != "[id isActive]" {
			t.Errorf("%s: got %v, %v", src, got, err)
		}
	}
}

// FuzzQuery: whatever a client sends is a page or an error, and never more than was asked for.
func FuzzQuery(f *testing.F) {
	f.Add("IsActive == true && contains(name,'x')", "-id", "new (Id)", "1")
	f.Add("not (id gt 3 or note eq null)", "name desc, id", "id,name", "0")
	f.Add(`Name.StartsWith("\"")`, "createdAt", "", "1000")
	f.Fuzz(func(t *testing.T, filter, sort, selected, take string) {
		values := url.Values{"filter": {filter}, "sort": {sort}, "select": {selected}, "take": {take}}
		q, err := parseQuery(values, rowFields, "id")
		if err != nil {
			return
		}
		page, total := q.page(q.filter(rows()))
		if len(page) > total || total > 3 || len(page) > q.take {
			t.Errorf("got %d of %d rows, asked for %d of 3", len(page), total, q.take)
		}
	})
}
