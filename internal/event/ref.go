package event

import (
	"crypto/sha256"

	"github.com/google/uuid"
)

// ObjectRef is the key under which the ledger finds a tenant's events of an object.
func ObjectRef(tenant, object string) uuid.UUID { return ref("object", tenant, object) }

// ResourceRef is the key under which the ledger finds a tenant's events that name a resource.
func ResourceRef(tenant, resource string) uuid.UUID { return ref("resource", tenant, resource) }

// Refs are the keys of the objects and resources that an event must name: one of each list.
func Refs(tenant string, objects, resources []string) (lists [][]uuid.UUID) {
	for _, named := range []struct {
		values []string
		ref    func(tenant, value string) uuid.UUID
	}{{objects, ObjectRef}, {resources, ResourceRef}} {
		if len(named.values) == 0 {
			continue
		}
		refs := make([]uuid.UUID, len(named.values))
		for i, v := range named.values {
			refs[i] = named.ref(tenant, v)
		}
		lists = append(lists, refs)
	}
	return lists
}

// ref hashes its parts: a key has the same size whatever a publisher names its objects.
func ref(kind, tenant, value string) uuid.UUID {
	sum := sha256.Sum256([]byte(kind + "\x00" + tenant + "\x00" + value))
	return uuid.UUID(sum[:16])
}

// Refs are the keys under which the ledger finds the event; none if it names neither an object nor a resource.
func (e *Event) Refs() []uuid.UUID {
	if e.ObjectID == "" && len(e.ResourceIDs) == 0 {
		return nil
	}
	refs := make([]uuid.UUID, 0, 1+len(e.ResourceIDs))
	if e.ObjectID != "" {
		refs = append(refs, ObjectRef(e.Tenant, e.ObjectID))
	}
	for _, id := range e.ResourceIDs {
		refs = append(refs, ResourceRef(e.Tenant, id))
	}
	return refs
}
