package access

import (
	"time"

	"github.com/fanfarehq/fanfare/internal/changes"
)

// keyDefinition is a key as its history keeps it: nothing that changes with each use.
type keyDefinition struct {
	ID        string     `json:"id"`
	Tenant    *string    `json:"tenant"`
	Name      string     `json:"name"`
	Scopes    []string   `json:"scopes"`
	Admin     bool       `json:"admin"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at"`
}

// keyChange is the creation or the end of a key.
func keyChange(k *Key, action string) *changes.Change {
	shown := present(k)
	d := keyDefinition{shown.ID, shown.Tenant, shown.Name, shown.Scopes, shown.Admin, shown.CreatedAt, shown.ExpiresAt}
	c := &changes.Change{Tenant: k.Tenant, Resource: changes.Key, ResourceID: k.ID, Action: action}
	if action == changes.Delete {
		c.At, c.Before = time.Now(), d
	} else {
		c.At, c.After = k.CreatedAt, d
	}
	return c
}

// tenantDefinition is a tenant as its history keeps it: what it was given, not what it uses.
type tenantDefinition struct {
	Tenant    string            `json:"tenant"`
	Name      string            `json:"name"`
	Metadata  map[string]string `json:"metadata"`
	CreatedAt time.Time         `json:"created_at"`
	UpdatedAt time.Time         `json:"updated_at"`
	Limits    tenantLimits      `json:"limits"`
}

func defineTenant(t *Tenant) tenantDefinition {
	d := tenantDefinition{Tenant: t.Tenant, Name: t.Name, Metadata: t.Metadata, CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt}
	if t.Limits != nil {
		d.Limits = tenantLimits(*t.Limits)
	}
	return d
}

// tenantChange is the change from one description of a tenant to the next; nil is none.
func tenantChange(before, after *Tenant) (*changes.Change, error) {
	c := &changes.Change{
		Tenant: after.Tenant, Resource: changes.Tenant, ResourceID: after.Tenant, Action: changes.Create, At: after.UpdatedAt, After: defineTenant(after),
	}
	if before == nil {
		return c, nil
	}
	c.Action, c.Before = changes.Update, defineTenant(before)
	var err error
	c.Changed, err = changes.Diff(c.Before, c.After)
	return c, err
}
