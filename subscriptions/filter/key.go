package filter

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"cel.dev/cel-go/common/types"
)

// MaxKey bounds the text of an ordering key, in bytes.
const MaxKey = 1024

// keyTypes are the types that the expression of a key may have. Dyn is the type of an event's data.
var keyTypes = []types.Kind{
	types.DynKind, types.StringKind, types.IntKind, types.UintKind, types.DoubleKind, types.BoolKind,
	types.TimestampKind, types.DurationKind,
}

// Key is a compiled expression that gives an event its ordering key. It is safe for concurrent use.
type Key struct{ expression Filter }

// CompileKey parses, checks and plans the expression of an ordering key, within the bounds of a filter. Its error is an *Error.
func CompileKey(source string) (*Key, error) {
	f, result, err := compile(source)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(keyTypes, result.Kind()) {
		return nil, &Error{Line: 1, Column: 1, Message: fmt.Sprintf(
			"must be a text, a number, a time or boolean, but is %s", result)}
	}
	return &Key{*f}, nil
}

// errNoKey is the error for an event without a key.
var errNoKey = errors.New("the value is no key")

// Of returns the ordering key of an event; an error means that the event has none.
func (k *Key) Of(in *Input) (string, error) {
	v, err := k.expression.value(in)
	if err != nil {
		return "", err
	}
	text := ""
	switch v := v.(type) {
	case types.String:
		text = string(v)
	case types.Int:
		text = strconv.FormatInt(int64(v), 10)
	case types.Uint:
		text = strconv.FormatUint(uint64(v), 10)
	case types.Double:
		text = strconv.FormatFloat(float64(v), 'f', -1, 64)
	case *wide:
		text = v.text
	case types.Bool:
		text = strconv.FormatBool(bool(v))
	case types.Timestamp:
		text = v.UTC().Format(time.RFC3339Nano)
	case types.Duration:
		text = v.Duration.String()
	}
	if text == "" || len(text) > MaxKey {
		return "", errNoKey
	}
	return text, nil
}
