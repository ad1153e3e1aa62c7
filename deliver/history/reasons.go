package history

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/event"
)

// reasonJSON is a reason in plain words.
type reasonJSON struct {
	Reason      reasonWord `json:"reason" example:"tls"`
	Description string     `json:"description"`
	Advice      string     `json:"advice" doc:"what can be done"`
}

// reasonWord is a reason of a delivery or of quarantine.
type reasonWord string

// Schema lists the reasons.
func (reasonWord) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, d := range allReasons() {
		s.Enum = append(s.Enum, string(d.Reason))
	}
	return s
}

type reasonsOutput struct {
	Body reasonList
}

// reasonList holds every reason.
type reasonList struct {
	Data []reasonJSON `json:"data" nullable:"false"`
}

func (r *routes) reasons(context.Context, *struct{}) (*reasonsOutput, error) {
	return &reasonsOutput{Body: reasonList{allReasons()}}, nil
}

// allReasons are the reasons of deliveries, then those of quarantine.
func allReasons() []reasonJSON {
	var all []reasonJSON
	for _, d := range outcome.Describe() {
		all = append(all, reasonJSON{Reason: reasonWord(d.Reason), Description: d.Description, Advice: d.Advice})
	}
	for _, d := range event.Describe() {
		all = append(all, reasonJSON{Reason: reasonWord(d.Reason), Description: d.Description, Advice: d.Advice})
	}
	return all
}
