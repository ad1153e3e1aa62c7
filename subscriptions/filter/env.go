package filter

import (
	"fmt"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/functions"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// eventTypeName is the type of the one variable, event.
const eventTypeName = "fanfare.Event"

// environment compiles all expressions. It is immutable and made once.
type environment struct {
	cel       *cel.Env
	functions map[string]*functions.Overload // by name; those that expressions may call
}

// allowedFunctions are the functions that expressions may call, besides the operators that have nodes of their own.
// bytes() is left out: nothing in an event needs it.
var allowedFunctions = []string{
	operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals,
	operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo,
	operators.Negate, operators.In, operators.NotStrictlyFalse,
	"size", "contains", "startsWith", "endsWith",
	"int", "uint", "double", "string", "bool", "timestamp", "duration", "type", "dyn",
	"getFullYear", "getMonth", "getDayOfYear", "getDayOfMonth", "getDate", "getDayOfWeek",
	"getHours", "getMinutes", "getSeconds", "getMilliseconds",
}

var sharedEnvironment = sync.OnceValues(newEnvironment)

func newEnvironment() (*environment, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, fmt.Errorf("make type registry: %w", err)
	}
	options := append(mixedArithmetic(),
		cel.CustomTypeProvider(eventProvider{registry}),
		cel.Variable("event", cel.ObjectType(eventTypeName)),
		cel.CrossTypeNumericComparisons(true),
		cel.ParserRecursionLimit(maxDepth),
		cel.ParserErrorRecoveryLimit(1),
		cel.ParserExpressionSizeLimit(MaxSource),
		cel.ExpressionNodeLimit(maxNodes),
	)
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, err
	}
	e := &environment{cel: env, functions: map[string]*functions.Overload{}}
	declared := env.Functions()
	for _, name := range allowedFunctions {
		decl, ok := declared[name]
		if !ok {
			return nil, fmt.Errorf("cel has no function %s", name)
		}
		bindings, err := decl.Bindings()
		if err != nil {
			return nil, fmt.Errorf("read function %s: %w", name, err)
		}
		for _, b := range bindings {
			if b.Operator == name { // The entry that dispatches by the arguments' types.
				e.functions[name] = b
			}
		}
		if e.functions[name] == nil {
			return nil, fmt.Errorf("function %s has no binding", name)
		}
	}
	return e, nil
}

// mixedArithmetic declares the overloads that mix makes possible: arithmetic of a double and a whole number.
func mixedArithmetic() []cel.EnvOption {
	var options []cel.EnvOption
	for name, id := range map[string]string{
		operators.Add: "add", operators.Subtract: "subtract", operators.Multiply: "multiply", operators.Divide: "divide",
	} {
		options = append(options, cel.Function(name,
			cel.Overload(id+"_double_int64", []*cel.Type{cel.DoubleType, cel.IntType}, cel.DoubleType),
			cel.Overload(id+"_int64_double", []*cel.Type{cel.IntType, cel.DoubleType}, cel.DoubleType)))
	}
	return options
}

// eventProvider gives the type checker the fields of an event, so that a misspelt field is refused on save.
type eventProvider struct{ types.Provider }

func (p eventProvider) FindStructType(name string) (*types.Type, bool) {
	if name == eventTypeName {
		return types.NewTypeTypeWithParam(types.NewObjectType(eventTypeName)), true
	}
	return p.Provider.FindStructType(name)
}

func (p eventProvider) FindStructFieldNames(name string) ([]string, bool) {
	if name == eventTypeName {
		return []string{"type", "id", "time", "data", "changed", "resource_ids"}, true
	}
	return p.Provider.FindStructFieldNames(name)
}

func (p eventProvider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if name != eventTypeName {
		return p.Provider.FindStructFieldType(name, field)
	}
	f, ok := eventFields[field]
	if !ok {
		return nil, false
	}
	return &types.FieldType{Type: f.typ}, true
}
