package subscriptions

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/fanfarehq/fanfare/internal/event"
)

// index finds a tenant's subscriptions by event type and resource id. Subscriptions that are disabled are
// not in it. Small sorted lists rather than maps: most tenants have few of anything.
type index struct {
	exact []typed // by type
	tree  branch  // patterns, a level for each token
}

type typed struct {
	eventType string
	list      entries
}

// branch is a node of the tree of patterns.
type branch struct {
	children []child // by token; the token "*" is one of them
	here     entries // patterns that end here
	rest     entries // patterns that end here with ">"
}

type child struct {
	token string
	*branch
}

// entries are sorted by resource id and id, so that those of one resource id are found without a look at
// the others, and those without one come first.
type entries []*entry

func compareEntries(a, b *entry) int {
	return cmp.Or(strings.Compare(a.resource(), b.resource()), bytes.Compare(a.id[:], b.id[:]))
}

func (l *entries) add(e *entry) {
	// New ids are larger than old ones, so this mostly appends.
	i, found := slices.BinarySearchFunc(*l, e, compareEntries)
	if found { // The same pattern twice in one subscription.
		(*l)[i] = e
		return
	}
	*l = slices.Insert(*l, i, e)
}

func (l *entries) remove(e *entry) {
	if i, found := slices.BinarySearchFunc(*l, e, compareEntries); found {
		*l = slices.Delete(*l, i, i+1)
	}
}

// of appends the entries of one resource id.
func (l entries) of(resource string, to []*entry) []*entry {
	first, _ := slices.BinarySearchFunc(l, resource, func(e *entry, r string) int { return strings.Compare(e.resource(), r) })
	for _, e := range l[first:] {
		if e.resource() != resource {
			break
		}
		to = append(to, e)
	}
	return to
}

func (x *index) add(e *entry) {
	for _, pattern := range e.patterns() {
		x.place(pattern).add(e)
	}
}

func (x *index) remove(e *entry) {
	for _, pattern := range e.patterns() {
		x.place(pattern).remove(e)
		x.prune(pattern)
	}
}

// place is the list of a pattern, made if need be.
func (x *index) place(pattern string) *entries {
	if isExact(pattern) {
		i, found := x.find(pattern)
		if !found {
			x.exact = slices.Insert(x.exact, i, typed{eventType: pattern})
		}
		return &x.exact[i].list
	}
	if matchesAll(pattern) {
		return &x.tree.rest
	}
	b := &x.tree
	for token := range strings.SplitSeq(pattern, ".") {
		if token == anyRest {
			return &b.rest
		}
		b = b.child(token)
	}
	return &b.here
}

func (x *index) find(eventType string) (int, bool) {
	return slices.BinarySearchFunc(x.exact, eventType, func(t typed, s string) int { return strings.Compare(t.eventType, s) })
}

func compareToken(c child, token string) int { return strings.Compare(c.token, token) }

func (b *branch) child(token string) *branch {
	i, found := slices.BinarySearchFunc(b.children, token, compareToken)
	if !found {
		b.children = slices.Insert(b.children, i, child{token, &branch{}})
	}
	return b.children[i].branch
}

// prune removes what holds no entry any more on the way to a pattern.
func (x *index) prune(pattern string) {
	if isExact(pattern) {
		if i, found := x.find(pattern); found && len(x.exact[i].list) == 0 {
			x.exact = slices.Delete(x.exact, i, i+1)
		}
		return
	}
	x.tree.prune(pattern)
}

func (b *branch) prune(pattern string) {
	token, rest, more := strings.Cut(pattern, ".")
	i, found := slices.BinarySearchFunc(b.children, token, compareToken)
	if !found {
		return
	}
	if more {
		b.children[i].prune(rest)
	}
	if b.children[i].empty() {
		b.children = slices.Delete(b.children, i, i+1)
	}
}

func (b *branch) empty() bool { return len(b.children)+len(b.here)+len(b.rest) == 0 }

// candidates appends those whose types and resource id fit; one may come several times.
func (x *index) candidates(l *lookup, to []*entry) []*entry {
	if i, found := x.find(l.event.Type); found {
		to = l.among(x.exact[i].list, to)
	}
	return x.tree.candidates(l, l.event.Type, to)
}

func (b *branch) candidates(l *lookup, rest string, to []*entry) []*entry {
	if len(b.rest) > 0 {
		to = l.among(b.rest, to)
	}
	if len(b.children) == 0 {
		return to
	}
	token, tail, more := strings.Cut(rest, ".")
	for _, key := range [2]string{token, anyToken} {
		i, found := slices.BinarySearchFunc(b.children, key, compareToken)
		if !found {
			continue
		}
		next := b.children[i].branch
		switch {
		case more:
			to = next.candidates(l, tail, to)
		case len(next.here) > 0:
			to = l.among(next.here, to)
		}
	}
	return to
}

// lookup is one search of the index for an event.
type lookup struct {
	event     *event.Event
	resources []string // see distinctResources
}

// among appends the entries of a list that accept any resource, or name one of the event's.
func (l *lookup) among(list entries, to []*entry) []*entry {
	to = list.of("", to)
	for _, id := range l.distinctResources() {
		to = list.of(id, to)
	}
	return to
}

// distinctResources returns the event's resource ids, each once. It finds them on the first call only, because one
// lookup may search a hundred lists.
func (l *lookup) distinctResources() []string {
	if l.resources == nil && len(l.event.ResourceIDs) > 0 {
		ids := slices.Sorted(slices.Values(l.event.ResourceIDs))
		l.resources = slices.DeleteFunc(slices.Compact(ids), func(id string) bool { return id == "" })
	}
	return l.resources
}
