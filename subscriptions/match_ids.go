package subscriptions

import "github.com/google/uuid"

// MatchIDs is Match for callers who need to know which subscriptions receive an event and nothing else of them:
// nothing is decoded for it.
func (d *Directory) MatchIDs(e *MatchEvent) (ids []uuid.UUID, revision int64) {
	candidates, demanded, revision := d.candidates(e)
	if len(candidates) == 0 {
		return nil, revision
	}
	ids = make([]uuid.UUID, 0, len(candidates))
	j := &judgement{event: e, demanded: demanded, filters: d.filters}
	if len(e.Targets) == 0 {
		candidates = dedupe(candidates)
	}
	for _, c := range candidates {
		if len(e.Targets) > 0 || j.passes(c) {
			ids = append(ids, c.id)
		}
	}
	if j.failures > 0 {
		d.failures.Add(j.failures)
	}
	return ids, revision
}
