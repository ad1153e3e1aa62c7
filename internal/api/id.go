package api

import "github.com/google/uuid"

// ParseID reads an id of a path. What is no id is NotFound, as an id is that does not exist.
func ParseID(raw string) (uuid.UUID, error) {
	// The length rules out the other forms that uuid.Parse knows: one thing has one address.
	id, err := uuid.Parse(raw)
	if err != nil || len(raw) != 36 {
		return uuid.Nil, NotFound()
	}
	return id, nil
}
