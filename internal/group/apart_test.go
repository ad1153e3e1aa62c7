package group_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/fanfarehq/fanfare/internal/group"
)

var (
	errFault = errors.New("refused")
	errAway  = errors.New("away")
)

func TestItemsAtFaultFailAlone(t *testing.T) {
	t.Parallel()
	items := make([]int, 1000)
	for i := range items {
		items[i] = i
	}
	bad := []int{0, 500, 501, 999}
	var committed, alone []int
	commits := 0
	err := group.Apart(items, func(list []int) error {
		commits++
		if slices.ContainsFunc(list, func(n int) bool { return slices.Contains(bad, n) }) {
			return errFault
		}
		committed = append(committed, list...)
		return nil
	}, func(err error) bool { return errors.Is(err, errFault) }, func(n int, err error) error {
		alone = append(alone, n)
		return nil
	})
	if err != nil || !slices.Equal(alone, bad) || len(committed) != len(items)-len(bad) {
		t.Errorf("got %v, %v alone, %d committed; want %v alone and the rest committed", err, alone, len(committed), bad)
	}
	if commits > 100 {
		t.Errorf("%d commits for %d items at fault", commits, len(bad))
	}
}

func TestAnErrorOfNoItemEndsTheSearch(t *testing.T) {
	t.Parallel()
	commits := 0
	err := group.Apart([]int{1, 2, 3, 4}, func([]int) error {
		if commits++; commits > 1 {
			return errAway
		}
		return errFault
	}, func(err error) bool { return errors.Is(err, errFault) }, func(int, error) error { return nil })
	if !errors.Is(err, errAway) || commits != 2 {
		t.Errorf("got %v after %d commits, want %v after 2", err, commits, errAway)
	}
}
