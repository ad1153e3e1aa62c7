package babelfor

import (
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// query is what the list endpoints understand: select, filter, sort, include, take and skip.
type query[T any] struct {
	pass predicate[T]
	// costly says that the filter looks at a field that rows do not have by themselves.
	costly bool
	sort   []order[T]
	// selected are the keys to print of each row, as printed; nil is all.
	selected []string
	// events says that the subscriptions' events are to be included.
	events     bool
	take, skip int
}

// order is one key of a sort.
type order[T any] struct {
	field      field[T]
	descending bool
}

// maxTake caps a page, also where the client asks for all.
const maxTake = 1000

// maxKeys bounds the fields of a sort or a select.
const maxKeys = 20

// parseQuery reads the parameters of a list; standard is the sort where the client asks for none.
// Every error is the client's.
func parseQuery[T any](values url.Values, known fields[T], standard string) (q query[T], err error) {
	if q.pass, q.costly, err = parseFilter(values.Get("filter"), known); err != nil {
		return q, err
	}
	by := values.Get("sort")
	if strings.TrimSpace(by) == "" {
		by = standard
	}
	if q.sort, err = parseSort(by, known); err != nil {
		return q, err
	}
	if q.selected, err = parseSelect(values.Get("select"), known); err != nil {
		return q, err
	}
	if q.events, err = parseInclude(values.Get("include")); err != nil {
		return q, err
	}
	if q.take, err = count(values, "take", maxTake); err != nil {
		return q, err
	}
	q.take = min(q.take, maxTake)
	q.skip, err = count(values, "skip", 0)
	return q, err
}

// parseSort reads "createdAt desc, id" or "-createdAt,id".
func parseSort[T any](src string, known fields[T]) ([]order[T], error) {
	keys := strings.Split(src, ",")
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("sort: more than %d fields", maxKeys)
	}
	orders := make([]order[T], 0, len(keys))
	for _, key := range keys {
		words := strings.Fields(strings.ReplaceAll(key, "+", " "))
		if len(words) == 0 || len(words) > 2 {
			return nil, fmt.Errorf("sort: expected a field and asc or desc instead of %q", key)
		}
		name, descending := strings.CutPrefix(words[0], "-")
		f, ok := known[strings.ToLower(name)]
		if !ok || f.get == nil || f.costly {
			return nil, fmt.Errorf("sort: unknown field %q", name)
		}
		if len(words) == 2 {
			switch strings.ToLower(words[1]) {
			case "asc", "ascending":
			case "desc", "descending":
				descending = true
			default:
				return nil, fmt.Errorf("sort: expected asc or desc instead of %q", words[1])
			}
		}
		orders = append(orders, order[T]{f, descending})
	}
	return orders, nil
}

// parseSelect reads "id,name" or "new (Id, Name)".
func parseSelect[T any](src string, known fields[T]) ([]string, error) {
	src = strings.TrimSpace(src)
	if rest, ok := strings.CutPrefix(strings.ToLower(src), "new"); ok {
		rest = strings.TrimSpace(rest)
		if strings.HasPrefix(rest, "(") && strings.HasSuffix(rest, ")") {
			src = rest[1 : len(rest)-1]
		}
	}
	if src == "" {
		return nil, nil
	}
	asked := strings.Split(src, ",")
	if len(asked) > maxKeys {
		return nil, fmt.Errorf("select: more than %d fields", maxKeys)
	}
	var names []string
	for _, name := range asked {
		f, ok := known[strings.ToLower(strings.TrimSpace(name))]
		if !ok {
			return nil, fmt.Errorf("select: unknown field %q", strings.TrimSpace(name))
		}
		if !slices.Contains(names, f.name) {
			names = append(names, f.name)
		}
	}
	return names, nil
}

// parseInclude knows one thing to include.
func parseInclude(src string) (bool, error) {
	src = strings.TrimSpace(src)
	if src != "" && !strings.EqualFold(src, "webhookEvents") {
		return false, fmt.Errorf("include: unknown collection %q", src)
	}
	return src != "", nil
}

// count reads a number that is not negative and fits an int32.
func count(values url.Values, name string, standard int) (int, error) {
	text := values.Get(name)
	if text == "" {
		return standard, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt32 {
		return 0, fmt.Errorf("%s: %q is no number from 0 to %d", name, text, math.MaxInt32)
	}
	return int(n), nil
}

// filter leaves the rows that pass.
func (q query[T]) filter(rows []T) []T {
	return slices.DeleteFunc(rows, func(row T) bool { return !q.pass(&row) })
}

// page sorts the rows, and returns the page that was asked for and how many there are in all.
func (q query[T]) page(rows []T) (page []T, total int) {
	slices.SortStableFunc(rows, q.compare)
	total = len(rows)
	rows = rows[min(q.skip, total):]
	return rows[:min(q.take, len(rows))], total
}

// prints says whether a key of the rows is printed.
func (q query[T]) prints(key string) bool {
	return q.selected == nil || slices.Contains(q.selected, key)
}

// compare orders two rows by the sort; null comes first, as in SQL Server.
func (q query[T]) compare(a, b T) int {
	for _, by := range q.sort {
		x, y := by.field.get(&a), by.field.get(&b)
		c := 0
		switch {
		case x == nil && y != nil:
			c = -1
		case x != nil && y == nil:
			c = 1
		case x != nil:
			c = compare(x, y)
		}
		if by.descending {
			c = -c
		}
		if c != 0 {
			return c
		}
	}
	return 0
}
