package filter

import (
	"errors"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"github.com/fanfarehq/fanfare/internal/event"
)

// Input is an event as expressions read it. The event's data is decoded when an expression first reads it, and the decoded
// form is kept for the next expression. It belongs to one goroutine.
type Input struct {
	Event *event.Event

	decoded     value
	undecodable error
	fields      [6]value // the fields that expressions have read so far
}

// errNotJSON is the error of every expression that reads data of another media type.
var errNotJSON = errors.New("the data is not JSON")

// eventFields are the fields of the variable event.
var eventFields = map[string]struct {
	index int
	typ   *types.Type
}{
	"type":         {0, cel.StringType},
	"id":           {1, cel.StringType},
	"time":         {2, cel.TimestampType},
	"data":         {3, cel.DynType},
	"changed":      {4, cel.ListType(cel.StringType)},
	"resource_ids": {5, cel.ListType(cel.StringType)},
}

// field returns a field as a value of the expression language. The value is made once for all expressions: their budgets
// cover the work that they do with it.
func (in *Input) field(index int) value {
	if in.fields[index] == nil {
		in.fields[index] = in.makeField(index)
	}
	return in.fields[index]
}

func (in *Input) makeField(index int) value {
	switch index {
	case 0:
		return types.String(in.Event.Type)
	case 1:
		return types.String(in.Event.ID)
	case 2:
		return types.Timestamp{Time: in.Event.Time.UTC()}
	case 3:
		v, err := in.data()
		if err != nil {
			return types.WrapErr(err)
		}
		return v
	case 4:
		return texts(in.Event.Changed)
	}
	return texts(in.Event.ResourceIDs)
}

// texts makes a list of strings.
func texts(list []string) value {
	elements := make([]value, len(list))
	for i, s := range list {
		elements[i] = types.String(s)
	}
	return types.NewRefValList(types.DefaultTypeAdapter, elements)
}

// data returns the event's data, decoded on the first call.
func (in *Input) data() (value, error) {
	if in.decoded == nil && in.undecodable == nil {
		if in.Event.JSON() {
			in.decoded, in.undecodable = decodeValue(in.Event.Data)
		} else {
			in.undecodable = errNotJSON
		}
	}
	return in.decoded, in.undecodable
}
