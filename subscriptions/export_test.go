package subscriptions

import "context"

// Narrowed returns the places that a new schema refuses and a former one took.
func Narrowed(former, next []byte) ([]Fault, error) {
	f, err := compileSchema(former)
	if err != nil {
		return nil, err
	}
	n, err := compileSchema(next)
	if err != nil {
		return nil, err
	}
	return narrowed(context.Background(), f, n), nil
}
