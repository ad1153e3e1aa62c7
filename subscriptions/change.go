package subscriptions

import (
	"reflect"
	"slices"

	"github.com/fanfarehq/fanfare/internal/changes"
)

// definition is a subscription as its history keeps it: as readers without write access see it and without the names in its
// credentials, so nothing of it is confidential, with the scopes that events are matched within, and whether there is a secret
// to sign with.
type definition struct {
	subscriptionJSON
	Scopes []string `json:"granted_scopes"`
	Signed *bool    `json:"signed,omitempty"` // absent in rows of earlier versions, and where secrets do not open
}

func definitionOf(s *Subscription) any {
	if s == nil {
		return nil
	}
	d := definition{subscriptionJSON: present(s.Masked()), Scopes: notNil(s.Scopes)}
	if d.Auth != nil {
		d.Auth.Username, d.Auth.ClientID = masked(d.Auth.Username), masked(d.Auth.ClientID)
	}
	if s.Err == nil {
		d.Signed = new(len(s.Secrets) > 0)
	}
	return d
}

// masked hides a value that is set.
func masked(value string) string {
	if value == "" {
		return ""
	}
	return Mask
}

// changeOf is the change from one definition of a subscription to the next; nil is none. An empty action follows from the
// fields.
func changeOf(before, after *Subscription, action string) *changes.Change {
	one := after
	if one == nil {
		one = before
	}
	c := &changes.Change{
		Tenant: one.Tenant, Resource: changes.Subscription, ResourceID: one.ID.String(), Action: action, At: one.UpdatedAt,
		Before: definitionOf(before), After: definitionOf(after),
	}
	if before == nil || after == nil {
		return c
	}
	c.Changed = changedFields(before, after)
	if c.Action == "" {
		c.Action = actionOf(c.Changed, after.Status)
	}
	return c
}

// actionOf names a change of the status alone after the new status.
func actionOf(changed []string, status Status) string {
	fields := slices.DeleteFunc(slices.Clone(changed), func(name string) bool { return name == "disabled_reason" })
	if len(fields) != 1 || fields[0] != "status" {
		return changes.Update
	}
	switch status {
	case Disabled:
		return changes.Disable
	case Paused:
		return changes.Pause
	}
	return changes.Enable
}

// changedFields names the fields in which two states of a subscription differ, confidential ones included.
func changedFields(before, after *Subscription) []string {
	names, err := changes.Diff(present(before), present(after))
	if err != nil { // What the API shows can be encoded.
		panic(err)
	}
	for _, secret := range []struct {
		field string
		same  bool
	}{
		{"auth", reflect.DeepEqual(before.Auth, after.Auth)},
		{"client_certificate", reflect.DeepEqual(before.Certificate, after.Certificate)},
		{"secret", before.Err != nil || reflect.DeepEqual(before.Secrets, after.Secrets)},
	} {
		if !secret.same && !slices.Contains(names, secret.field) {
			names = append(names, secret.field)
		}
	}
	slices.Sort(names)
	return names
}

// typeChangeOf is the change from one definition of an event type to the next; nil is none.
func typeChangeOf(before, after *EventType, action string) *changes.Change {
	one := after
	if one == nil {
		one = before
	}
	c := &changes.Change{Tenant: one.Tenant, Resource: changes.EventType, ResourceID: one.Name, Action: action, At: one.UpdatedAt}
	if before != nil {
		c.Before = presentType(before)
	}
	if after != nil {
		c.After = presentType(after)
	}
	if before == nil || after == nil {
		return c
	}
	names, err := changes.Diff(c.Before, c.After)
	if err != nil { // What the API shows can be encoded.
		panic(err)
	}
	c.Changed = names
	return c
}
