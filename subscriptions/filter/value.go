package filter

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"github.com/go-json-experiment/json/jsontext"
)

// decodeValue converts JSON to values of the expression language, without Go's maps in between.
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

// object is a JSON object as a CEL map. Its fields are sorted by key: it takes half the memory of a Go map and is always
// iterated in the same order.
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

// ConvertToNative implements ref.Val. Filters never call it.
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

// The rest of ref.Val, which cel-go demands of iterators.
func (k *keys) ConvertToNative(reflect.Type) (any, error) { return nil, errors.ErrUnsupported }
func (k *keys) ConvertToType(ref.Type) ref.Val            { return types.NoSuchOverloadErr() }
func (k *keys) Equal(ref.Val) ref.Val                     { return types.NoSuchOverloadErr() }
func (k *keys) Type() ref.Type                            { return types.IteratorType }
func (k *keys) Value() any                                { return nil }
