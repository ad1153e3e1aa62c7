package subscriptions

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"github.com/go-json-experiment/json/jsontext"
)

// eventFields are the fields of event in a filter.
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

// field returns a field as a value of the expression language. It is made once for all filters, whose budgets are for
// what they do with it.
func (e *MatchEvent) field(index int) value {
	if e.fields[index] == nil {
		e.fields[index] = e.makeField(index)
	}
	return e.fields[index]
}

func (e *MatchEvent) makeField(index int) value {
	switch index {
	case 0:
		return types.String(e.Type)
	case 1:
		return types.String(e.ID)
	case 2:
		return types.Timestamp{Time: e.Time.UTC()}
	case 3:
		v, err := e.value()
		if err != nil {
			return types.WrapErr(err)
		}
		return v
	case 4:
		return texts(e.Changed)
	}
	return texts(e.ResourceIDs)
}

// texts makes a list of strings.
func texts(list []string) value {
	elements := make([]value, len(list))
	for i, s := range list {
		elements[i] = types.String(s)
	}
	return types.NewRefValList(types.DefaultTypeAdapter, elements)
}

// value returns the event's data, decoded by whoever asks first.
func (e *MatchEvent) value() (value, error) {
	if e.decoded == nil && e.undecodable == nil {
		e.decoded, e.undecodable = decodeValue(e.Data)
	}
	return e.decoded, e.undecodable
}

// decodeValue turns JSON into values of the expression language, without going through Go's maps.
func decodeValue(data []byte) (value, error) {
	// Data was judged when it was accepted; here the last of repeated names simply wins.
	d := jsontext.NewDecoder(bytes.NewReader(data), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	v, err := readValue(d)
	if err != nil {
		return nil, fmt.Errorf("decode data: %w", err)
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("decode data: more than one value")
	}
	return v, nil
}

func readValue(d *jsontext.Decoder) (value, error) {
	token, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case '{':
		return readObject(d)
	case '[':
		return readList(d)
	case '"':
		return types.String(token.String()), nil
	case '0':
		return number(token.String()), nil
	case 't':
		return types.True, nil
	case 'f':
		return types.False, nil
	}
	return types.NullValue, nil
}

func readObject(d *jsontext.Decoder) (value, error) {
	o := &object{}
	for d.PeekKind() != '}' {
		token, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		key := token.String()
		v, err := readValue(d)
		if err != nil {
			return nil, err
		}
		o.fields = append(o.fields, objectField{key, v})
	}
	o.sort()
	_, err := d.ReadToken()
	return o, err
}

func readList(d *jsontext.Decoder) (value, error) {
	var elements []value
	for d.PeekKind() != ']' {
		v, err := readValue(d)
		if err != nil {
			return nil, err
		}
		elements = append(elements, v)
	}
	_, err := d.ReadToken()
	return types.NewRefValList(types.DefaultTypeAdapter, elements), err
}

// object is a JSON object as a CEL map: fields sorted by key, half the size of a Go map, and iterated in
// the same order always.
type object struct{ fields []objectField }

type objectField struct {
	key   string
	value value
}

var _ traits.Mapper = (*object)(nil)

func compareKeys(a, b objectField) int { return strings.Compare(a.key, b.key) }

// sort orders the fields and lets the last of equal keys win.
func (o *object) sort() {
	slices.SortStableFunc(o.fields, compareKeys)
	n := 0
	for i := range o.fields {
		if i+1 < len(o.fields) && o.fields[i].key == o.fields[i+1].key {
			continue
		}
		o.fields[n] = o.fields[i]
		n++
	}
	o.fields = o.fields[:n]
}

func (o *object) find(key string) (value, bool) {
	i, ok := slices.BinarySearchFunc(o.fields, key, func(f objectField, key string) int { return strings.Compare(f.key, key) })
	if !ok {
		return nil, false
	}
	return o.fields[i].value, true
}

// Find implements traits.Mapper.
func (o *object) Find(key ref.Val) (ref.Val, bool) {
	s, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	return o.find(string(s))
}

// Get implements traits.Indexer.
func (o *object) Get(key ref.Val) ref.Val {
	if v, ok := o.Find(key); ok {
		return v
	}
	return types.NewErr("no such key: %v", key)
}

// Contains implements traits.Container.
func (o *object) Contains(key ref.Val) ref.Val {
	_, ok := o.Find(key)
	return types.Bool(ok)
}

// Size implements traits.Sizer.
func (o *object) Size() ref.Val { return types.Int(len(o.fields)) }

// Type implements ref.Val.
func (o *object) Type() ref.Type { return types.MapType }

// Equal implements ref.Val.
func (o *object) Equal(other ref.Val) ref.Val {
	p, ok := other.(*object)
	if !ok || len(o.fields) != len(p.fields) {
		return types.False
	}
	for i, f := range o.fields {
		if f.key != p.fields[i].key || equal(f.value, p.fields[i].value) != types.True {
			return types.False
		}
	}
	return types.True
}

// ConvertToType implements ref.Val.
func (o *object) ConvertToType(to ref.Type) ref.Val {
	switch to {
	case types.MapType:
		return o
	case types.TypeType:
		return types.MapType
	}
	return types.NewErr("type conversion error from map to %s", to.TypeName())
}

// ConvertToNative implements ref.Val; nothing here needs it.
func (o *object) ConvertToNative(to reflect.Type) (any, error) {
	return nil, fmt.Errorf("convert a JSON object to %s: not supported", to)
}

// Value implements ref.Val.
func (o *object) Value() any { return o }

// Iterator implements traits.Iterable.
func (o *object) Iterator() traits.Iterator { return &keys{o: o} }

// keys iterates over an object's keys.
type keys struct {
	o *object
	i int
}

func (k *keys) HasNext() ref.Val { return types.Bool(k.i < len(k.o.fields)) }

func (k *keys) Next() ref.Val {
	k.i++
	return types.String(k.o.fields[k.i-1].key)
}

// The rest of ref.Val, so that keys may pass for one as cel-go demands of iterators.
func (k *keys) ConvertToNative(reflect.Type) (any, error) { return nil, errors.ErrUnsupported }
func (k *keys) ConvertToType(ref.Type) ref.Val            { return types.NoSuchOverloadErr() }
func (k *keys) Equal(ref.Val) ref.Val                     { return types.NoSuchOverloadErr() }
func (k *keys) Type() ref.Type                            { return types.IteratorType }
func (k *keys) Value() any                                { return nil }
