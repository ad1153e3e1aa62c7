package dialects

import (
	"log/slog"

	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Deps are what a vendor's API is made of.
type Deps struct {
	Auth  *access.Grants
	Store *subscriptions.Store
	Log   *slog.Logger
}
