package subscriptions

import (
	"errors"
	"fmt"
	"strings"
)

// Bounds of event types and of the patterns that match them.
const (
	MaxTypeLength = 128 // characters of a type or pattern
	MaxEventTypes = 100 // of one subscription
)

// The tokens of patterns with a meaning of their own.
const (
	anyToken = "*" // one token; alone: every type
	anyRest  = ">" // one or more tokens, at the end
)

// ValidEventType is the error of an event type's name: it must be 1-128 of [A-Za-z0-9_], in tokens that
// dots part.
func ValidEventType(name string) error {
	return checkTokens(name, false)
}

// ValidPattern is the error of an event type or pattern of a subscription.
func ValidPattern(pattern string) error {
	return checkTokens(pattern, true)
}

func checkTokens(s string, wild bool) error {
	if len(s) > MaxTypeLength {
		return fmt.Errorf("must not be longer than %d characters", MaxTypeLength)
	}
	for rest, more := s, true; more; {
		var token string
		token, rest, more = strings.Cut(rest, ".")
		switch {
		case token == "":
			return errors.New("must not be empty, nor have an empty part between its dots")
		case wild && token == anyToken:
		case wild && token == anyRest:
			if more {
				return errors.New("may have > only at its end")
			}
		case strings.Trim(token, wordCharacters) != "":
			if wild {
				return errors.New("must consist of letters, digits, _ and dots; * or > stand for whole parts")
			}
			return errors.New("must consist of letters, digits, _ and dots")
		}
	}
	return nil
}

const wordCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"

// isExact says whether a pattern is an event type itself.
func isExact(pattern string) bool { return !strings.ContainsAny(pattern, anyToken+anyRest) }

// matchesAll says whether a pattern takes every type.
func matchesAll(pattern string) bool { return pattern == anyToken || pattern == anyRest }

// patternTakes says whether a pattern takes an event type. It is what the index must agree with.
func patternTakes(pattern, eventType string) bool {
	if matchesAll(pattern) {
		return true
	}
	for {
		p, moreP, okP := strings.Cut(pattern, ".")
		t, moreT, okT := strings.Cut(eventType, ".")
		switch {
		case p == anyRest:
			return true
		case p != anyToken && p != t:
			return false
		case !okP || !okT:
			return okP == okT
		}
		pattern, eventType = moreP, moreT
	}
}
