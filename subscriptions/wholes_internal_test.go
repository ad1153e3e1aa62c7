// The bound is tested inside: to reach it through a Directory takes 65,537 subscriptions, each asked for.

package subscriptions

import "testing"

// The Directory keeps a bounded number of Subscriptions in full: the one that was kept longest makes room.
func TestWholesAreBounded(t *testing.T) {
	t.Parallel()
	var w wholes
	var entries []*entry
	for range maxWholes + 10 {
		e := &entry{}
		entries = append(entries, e)
		w.keep(e, &Subscription{})
	}
	held := 0
	for _, e := range entries {
		if e.whole.Load() != nil {
			held++
		}
	}
	if held != maxWholes || entries[9].whole.Load() != nil || entries[10].whole.Load() == nil {
		t.Errorf("%d are held", held)
	}
	again := &Subscription{}
	if got := w.keep(entries[10], again); got == again {
		t.Error("what is held was replaced")
	}
}
