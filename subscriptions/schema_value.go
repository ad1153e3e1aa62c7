package subscriptions

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/message"
)

// The types of JSON Schema, as jsonschema writes them.
var (
	nullType, booleanType, stringType = typesOf("null"), typesOf("boolean"), typesOf("string")
	numberType, integerType           = typesOf("number"), typesOf("integer")
	arrayType, objectType             = typesOf("array"), typesOf("object")
)

func typesOf(name string) (t jsonschema.Types) {
	t.Add(name)
	return t
}

func typeOf(v any) jsonschema.Types {
	switch v.(type) {
	case nil:
		return nullType
	case bool:
		return booleanType
	case string:
		return stringType
	case json.Number:
		return numberType
	case []any:
		return arrayType
	}
	return objectType
}

func typeName(v any) string { return typeOf(v).ToStrings()[0] }

// counted is a fault of minContains or maxContains.
type counted struct {
	bound     string
	want, got int
}

// KeywordPath implements jsonschema.ErrorKind.
func (c counted) KeywordPath() []string { return []string{c.bound + "Contains"} }

// LocalizedString implements jsonschema.ErrorKind.
func (c counted) LocalizedString(*message.Printer) string {
	return fmt.Sprintf("%s %d items required to match contains schema, but matched %d items", c.bound, c.want, c.got)
}

// KeywordPath implements jsonschema.ErrorKind.
func (required) KeywordPath() []string { return []string{"required"} }

// LocalizedString implements jsonschema.ErrorKind.
func (required) LocalizedString(*message.Printer) string { return "is required" }

// wanted are the values that const and enum allow.
type wanted struct{ constant, enum map[string]bool }

// wantedOf prepares the values of a schema, so that a look at one costs the same however many there are.
func (j *judging) wantedOf(s *jsonschema.Schema) wanted {
	w := wanted{constant: map[string]bool{}, enum: map[string]bool{}}
	if s.Const != nil {
		w.constant[string(j.key(nil, *s.Const))] = true
	}
	if s.Enum != nil {
		for _, v := range s.Enum.Values {
			w.enum[string(j.key(nil, v))] = true
		}
	}
	return w
}

func (j *judging) isAmong(values map[string]bool, v any) bool {
	var room [64]byte
	return values[string(j.key(room[:0], v))]
}

// key appends a text that two values share if and only if JSON Schema takes them for equal.
func (j *judging) key(to []byte, v any) []byte {
	j.spend(1)
	switch v := v.(type) {
	case nil:
		return append(to, 'z')
	case bool:
		return strconv.AppendBool(to, v)
	case string:
		return j.keyText(to, v)
	case json.Number:
		return j.keyNumber(to, string(v))
	case []any:
		to = strconv.AppendInt(append(to, '['), int64(len(v)), 10)
		for _, item := range v {
			to = j.key(to, item)
		}
		return to
	case map[string]any:
		to = strconv.AppendInt(append(to, '{'), int64(len(v)), 10)
		for _, name := range sorted(v) {
			to = j.key(j.keyText(to, name), v[name])
		}
		return to
	}
	return to
}

func (j *judging) keyText(to []byte, text string) []byte {
	j.spend(len(text) / 64)
	to = strconv.AppendInt(append(to, 's'), int64(len(text)), 10)
	return append(append(to, ':'), text...)
}

// keyNumber appends a number as its digits and an exponent: 12.50, 125e-1 and 0.0125E3 are the same.
func (j *judging) keyNumber(to []byte, text string) []byte {
	j.spend(len(text) / 16)
	text, negative := strings.CutPrefix(text, "-")
	mantissa, exponentText, _ := strings.Cut(strings.ToLower(text), "e")
	exponent, _ := strconv.Atoi(exponentText) // bounded by decodeExact
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := whole + fraction
	exponent -= len(fraction)
	short := strings.TrimRight(digits, "0")
	exponent += len(digits) - len(short)
	if short = strings.TrimLeft(short, "0"); short == "" {
		return append(to, "n0;"...)
	}
	if to = append(to, 'n'); negative {
		to = append(to, '-')
	}
	to = append(append(to, short...), 'e')
	return append(strconv.AppendInt(to, int64(exponent), 10), ';')
}

// rational is a number as it is written. Its digits, once the exponent is written out, are what arithmetic costs.
func (j *judging) rational(n json.Number) *big.Rat {
	_, exponentText, _ := strings.Cut(strings.ToLower(string(n)), "e")
	exponent, _ := strconv.Atoi(exponentText)
	digits := len(n) + max(exponent, -exponent)
	j.spend(10 + digits*digits/500)
	v, ok := new(big.Rat).SetString(string(n))
	if !ok {
		return new(big.Rat)
	}
	return v
}

func (j *judging) isInteger(n json.Number) bool {
	return !strings.ContainsAny(string(n), ".eE") || j.rational(n).IsInt()
}

// clipped is as much of a text of the data as a violation shows.
func clipped(text string) string {
	if len(text) <= maxClipped {
		return text
	}
	return strings.ToValidUTF8(text[:maxClipped], "") + "..."
}

const maxClipped = 100
