package subscriptions

import (
	"github.com/google/uuid"
	"time"
)

type MatchEvent struct {
	Tenant, Type, ID     string
	Time                 time.Time
	Data                 []byte
	ResourceIDs, Changed []string
	Targets              []uuid.UUID
	decoded              value
	undecodable          error
}
