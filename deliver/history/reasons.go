package history

import (
	"context"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/event"
)

// reasonJSON is a reason in plain words.
type reasonJSON struct {
	Reason      string `json:"reason" example:"tls"`
	Description string `json:"description"`
	Advice      string `json:"advice" doc:"what can be done"`
}

type reasonsOutput struct {
	Body reasonList
}

// reasonList holds every reason.
type reasonList struct {
	Data []reasonJSON `json:"data" nullable:"false"`
}

// reasons lists the reasons of deliveries, then those of quarantine.
func (r *routes) reasons(context.Context, *struct{}) (*reasonsOutput, error) {
	out := &reasonsOutput{}
	for _, d := range outcome.Describe() {
		out.Body.Data = append(out.Body.Data, reasonJSON(d))
	}
	for _, d := range event.Describe() {
		out.Body.Data = append(out.Body.Data, reasonJSON{Reason: string(d.Reason), Description: d.Description, Advice: d.Advice})
	}
	return out, nil
}
