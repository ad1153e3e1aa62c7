package vendors

import (
	"context"
	"slices"

	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/dialects"
	"github.com/fanfarehq/fanfare/internal/dialects/babelfor"
	"github.com/fanfarehq/fanfare/internal/dialects/kajabi"
	"github.com/fanfarehq/fanfare/internal/dialects/leat"
	"github.com/fanfarehq/fanfare/internal/dialects/passona"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Deps are those of the vendor that needs most.
type Deps = babelfor.Deps

// New makes the APIs of these vendors, for dialects.Mux.
func New(cfg Config, names []string, deps Deps) []*dialects.Vendor {
	made := make([]*dialects.Vendor, 0, len(names))
	if slices.Contains(names, kajabi.Name) {
		deps.Foreign = kajabi.Owns
	}
	for _, name := range names {
		switch name {
		case leat.Name:
			made = append(made, leat.New(cfg.LeatConfig, deps.Deps))
		case kajabi.Name:
			made = append(made, kajabi.New(deps.Deps))
		case passona.Name:
			made = append(made, passona.New(cfg.PassonaConfig, deps.Deps))
		case babelfor.Name:
			made = append(made, babelfor.New(deps))
		}
	}
	return made
}

// Formats are the payload formats of all vendors, for deliver.PosterConfig, beside Fanfare's own.
func Formats(cfg Config) []webhook.Format {
	return []webhook.Format{leat.Format(), kajabi.Format(), passona.Format(), babelfor.Format(cfg.BabelforConfig)}
}

// Declare makes the event types be there that these vendors bring with them. What is there stays as it is.
func Declare(ctx context.Context, names []string, store *subscriptions.Store) error {
	if !slices.Contains(names, kajabi.Name) {
		return nil
	}
	return kajabi.Declare(ctx, store)
}
