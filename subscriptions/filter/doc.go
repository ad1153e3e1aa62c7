// Package filter is Fanfare's CEL subset with its budgets: the expressions by which a subscription selects events (Filter) and
// gives them an ordering key (Key).
//
// In come the source of an expression and an event (Input). cel-go parses and type-checks the source and lends its
// functions and values. The evaluation is Fanfare's own, because it counts steps and bytes: cel-go's cost limit takes 400
// bytes and 2 microseconds for each step that it counts, more than the work that it limits.
//
// Out goes a boolean, a key or an error. An error (a missing key, values that cannot be compared, a spent budget) means no
// match, or no key. Seen lists the values that a filter read, for explanations.
//
// It promises that an accepted expression takes no event more than maxSteps steps and maxBytes bytes, and that compiling
// takes bounded memory. The same source and event always give the same result. TestAgreesWithCEL compares the results
// with cel-go's own over random expressions. The deviations from CEL:
//
//   - Arithmetic mixes whole and fractional numbers: event.data.total * 2 is allowed, although every number of JSON is a
//     double. The operator % accepts doubles that hold whole numbers.
//   - Numbers are compared exactly, whatever their types: a double equals an integer only if it is that integer. This also
//     holds within lists and objects, and for the operator in.
//   - A whole number of 64 bits that a double would round stays an integer. A larger one, and one beyond the range of a
//     double, keeps its digits; it can be compared and written as text, and is a double for arithmetic.
//   - string() writes a double as JSON shows it: 1000000, not 1e+06.
//   - The keys of an object are iterated in sorted order; CEL leaves the order open.
//   - Refused on save: map, filter and other macros that build lists or maps, map and message literals, bytes(), functions
//     with a time zone, patterns of matches() that are not literals or exceed MaxInstructions, expressions that may
//     cost more than maxSteps, and constant subexpressions that fail.
//   - Errors at evaluation: adding lists, a timestamp of more than 64 bytes.
//   - The variable event can be read by its fields only.
//
// The package asks nobody and keeps nothing between calls: no dependency can fail, and there is nothing to stop.
package filter
