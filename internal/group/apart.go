package group

// Apart commits items so that the ones at fault fail alone. A group that is refused is halved until each item at fault stands
// alone; then alone is called with it and the reason. One item at fault among 1,000 costs about 20 commits. Any other error, of
// commit or of alone, ends it and is returned: earlier commits stay.
func Apart[T any](items []T, commit func([]T) error, atFault func(error) bool, alone func(T, error) error) error {
	err := commit(items)
	switch {
	case err == nil || !atFault(err):
		return err
	case len(items) == 1:
		return alone(items[0], err)
	}
	half := len(items) / 2
	if err := Apart(items[:half], commit, atFault, alone); err != nil {
		return err
	}
	return Apart(items[half:], commit, atFault, alone)
}
