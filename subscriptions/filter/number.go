package filter

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// number converts a number of JSON to a double, as CEL does, unless a double would change its value too much. Whole
// numbers of 64 bits, which are ids, stay integers. Larger ones, and numbers beyond the range of a double, become wide.
func number(text string) value {
	whole := !strings.ContainsAny(text, ".eE")
	if whole && len(text) > 15 {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			if n > exact || n < -exact {
				return types.Int(n)
			}
		} else if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			return types.Uint(n)
		} else {
			return newWide(text)
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f == 0 && strings.ContainsAny(mantissa(text), "123456789") {
		return newWide(text)
	}
	return types.Double(f)
}

func mantissa(text string) string {
	m, _, _ := strings.Cut(strings.ToLower(text), "e")
	return m
}

// wide is a number that no CEL type holds: a whole number of more than 64 bits, or one beyond the range of a double. It is
// compared exactly and written as published; arithmetic narrows it to a double.
type wide struct {
	text string // as it was published
	decimal
}

func newWide(text string) *wide { return &wide{text, decimalOf(text)} }

// decimal is a number as 0.digits times ten to the power of point. Digits neither begin nor end with a zero; the number zero has none.
type decimal struct {
	negative bool
	digits   string
	point    int64
}

// decimalOf reads a number of JSON.
func decimalOf(text string) decimal {
	var d decimal
	text, d.negative = strings.CutPrefix(strings.ToLower(text), "-")
	m, e, _ := strings.Cut(text, "e")
	whole, fraction, _ := strings.Cut(m, ".")
	power, err := strconv.ParseInt(strings.TrimPrefix(e, "+"), 10, 64)
	const most = 1 << 60 // numbers beyond it count as equal
	if err != nil && e != "" {
		if power = most; strings.HasPrefix(e, "-") {
			power = -most
		}
	}
	all := whole + fraction
	d.digits = strings.TrimLeft(all, "0")
	d.point = min(max(power, -most), most) + int64(len(whole)-(len(all)-len(d.digits)))
	if d.digits = strings.TrimRight(d.digits, "0"); d.digits == "" {
		return decimal{}
	}
	return d
}

// compare returns -1, 0 or 1.
func (d decimal) compare(other decimal) int {
	switch {
	case d.sign() != other.sign():
		return cmpInt(d.sign(), other.sign())
	case d.point != other.point:
		return d.sign() * cmpInt(d.point, other.point)
	}
	return d.sign() * strings.Compare(d.digits, other.digits)
}

func (d decimal) sign() int {
	switch {
	case d.digits == "":
		return 0
	case d.negative:
		return -1
	}
	return 1
}

func cmpInt[T int | int64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// ConvertToType implements ref.Val.
func (w *wide) ConvertToType(to ref.Type) ref.Val {
	switch to {
	case types.StringType:
		return types.String(w.text)
	case types.TypeType:
		return types.DoubleType
	}
	return types.NewErr("the number is out of range for %s", to.TypeName())
}

// ConvertToNative implements ref.Val. Filters never call it.
func (w *wide) ConvertToNative(to reflect.Type) (any, error) {
	return nil, fmt.Errorf("convert a number to %s: not supported", to)
}

// Equal implements ref.Val.
func (w *wide) Equal(other ref.Val) ref.Val {
	c, ok := compareNumbers(w, other)
	return types.Bool(ok && c == 0)
}

// Type implements ref.Val.
func (w *wide) Type() ref.Type { return types.DoubleType }

// Value implements ref.Val.
func (w *wide) Value() any { return w.text }

// compareNumbers compares two numbers of any types exactly; false if one is not a number, or is NaN.
// A double equals an integer only if it is that integer, not if the integer rounds to it.
func compareNumbers(a, b value) (int, bool) {
	if x, ok := a.(types.Double); ok {
		if y, ok := b.(types.Double); ok {
			switch {
			case x < y:
				return -1, true
			case x > y:
				return 1, true
			}
			return 0, x == y
		}
	}
	if x, ok := a.(types.Int); ok {
		if y, ok := b.(types.Int); ok {
			return cmpInt(int64(x), int64(y)), true
		}
	}
	if !isNumber(a) || !isNumber(b) {
		return 0, false
	}
	return compareMixed(a, b)
}

func isNumber(v value) bool {
	switch v.(type) {
	case types.Double, types.Int, types.Uint, *wide:
		return true
	}
	return false
}

// compareMixed compares numbers of different types. Numbers below 2^53, the usual case, are compared as doubles: all
// integers there are exact.
func compareMixed(a, b value) (int, bool) {
	x, y := approximate(a), approximate(b)
	switch {
	case math.IsNaN(x) || math.IsNaN(y):
		return 0, false
	case math.IsInf(x, 0) || math.IsInf(y, 0), math.Abs(x) < exact && math.Abs(y) < exact && !isWide(a) && !isWide(b):
		return compareNumbers(types.Double(x), types.Double(y))
	}
	return decimalOf(exactText(a)).compare(decimalOf(exactText(b))), true
}

func isWide(v value) bool {
	_, is := v.(*wide)
	return is
}

// exact is the number below which a double holds every integer.
const exact = 1 << 53

// digitCost returns the steps for comparing a number, beyond the first: large numbers are compared by their digits.
func digitCost(v value) int {
	switch n := v.(type) {
	case *wide:
		return 4 + len(n.text)/64
	case types.Double:
		if math.Abs(float64(n)) < exact {
			return 0
		}
	case types.Int:
		if n < exact && n > -exact {
			return 0
		}
	case types.Uint:
		if n < exact {
			return 0
		}
	default:
		return 0
	}
	return 4
}

// approximate returns a number as a double; 0 for a wide number.
func approximate(v value) float64 {
	switch n := v.(type) {
	case types.Double:
		return float64(n)
	case types.Int:
		return float64(n)
	case types.Uint:
		return float64(n)
	}
	return 0
}

// exactText writes a number with all its digits: a double above 2^53 as the whole number that its bits represent.
func exactText(v value) string {
	switch n := v.(type) {
	case types.Double:
		if math.Abs(float64(n)) >= exact {
			return strconv.FormatFloat(float64(n), 'f', 0, 64)
		}
		return strconv.FormatFloat(float64(n), 'e', -1, 64)
	case types.Int:
		return strconv.FormatInt(int64(n), 10)
	case types.Uint:
		return strconv.FormatUint(uint64(n), 10)
	case *wide:
		return n.text
	}
	return ""
}

// doubleText writes a double as JSON would show it: a whole number without a power of ten.
func doubleText(d types.Double) string {
	if math.Abs(float64(d)) < 1e21 && d == types.Double(math.Trunc(float64(d))) {
		return strconv.FormatFloat(float64(d), 'f', 0, 64)
	}
	return strconv.FormatFloat(float64(d), 'g', -1, 64)
}
