package babelfor

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A token of the filter grammar. Text is the unquoted value of strings and the spelling of the rest.
type token struct {
	kind tokenKind
	text string
	at   int // byte offset in the source, for messages
}

type tokenKind int

const (
	endToken tokenKind = iota
	nameToken
	stringToken
	numberToken // digits, and what begins with digits: 2019-08-24T14:15:22Z
	operatorToken
)

// maxTokens bounds a filter; clients send a handful.
const maxTokens = 200

// signs are the operators that OData spells as words.
var signs = map[string]string{
	"eq": "==", "ne": "!=", "gt": ">", "ge": ">=", "lt": "<", "le": "<=",
	"and": "&&", "or": "||", "not": "!",
}

// lex splits a filter into tokens, the last of which is an endToken.
func lex(src string) ([]token, error) {
	var tokens []token
	for at := 0; at < len(src); {
		c := src[at]
		if c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '+' {
			at++ // a plus is a space that a client escaped once too often
			continue
		}
		if len(tokens) == maxTokens {
			return nil, fmt.Errorf("more than %d words and signs", maxTokens)
		}
		tok, next, err := lexOne(src, at)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, tok)
		at = next
	}
	return append(tokens, token{kind: endToken, text: "the end", at: len(src)}), nil
}

// lexOne reads the token that begins at a byte that is no space.
func lexOne(src string, at int) (token, int, error) {
	switch c := src[at]; {
	case c == '"' || c == '\'':
		return lexString(src, at)
	case isDigit(c) || c == '-' && at+1 < len(src) && isDigit(src[at+1]):
		end := at + 1
		for end < len(src) && (isLetter(src[end]) || isDigit(src[end]) || strings.IndexByte("-:.", src[end]) >= 0) {
			end++
		}
		return token{numberToken, src[at:end], at}, end, nil
	case isLetter(c):
		end := at + 1
		for end < len(src) && (isLetter(src[end]) || isDigit(src[end])) {
			end++
		}
		name := src[at:end]
		if sign, ok := signs[strings.ToLower(name)]; ok {
			return token{operatorToken, sign, at}, end, nil
		}
		return token{nameToken, name, at}, end, nil
	default:
		return lexOperator(src, at)
	}
}

// lexOperator reads a sign; the longest one that fits.
func lexOperator(src string, at int) (token, int, error) {
	for _, sign := range []string{"==", "!=", "<>", ">=", "<=", "&&", "||", "=", "<", ">", "!", "(", ")", ",", "."} {
		if !strings.HasPrefix(src[at:], sign) {
			continue
		}
		end := at + len(sign)
		switch sign {
		case "=":
			sign = "=="
		case "<>":
			sign = "!="
		}
		return token{operatorToken, sign, at}, end, nil
	}
	r, _ := utf8.DecodeRuneInString(src[at:])
	return token{}, 0, fmt.Errorf("unexpected %q at position %d", r, at+1)
}

// lexString reads a quoted string. A backslash escapes the next character; a doubled quote is one, as in OData.
func lexString(src string, at int) (token, int, error) {
	quote := src[at]
	var text strings.Builder
	for i := at + 1; i < len(src); i++ {
		switch {
		case src[i] == '\\' && i+1 < len(src):
			i++
			text.WriteByte(src[i])
		case src[i] == quote && i+1 < len(src) && src[i+1] == quote:
			i++
			text.WriteByte(quote)
		case src[i] == quote:
			return token{stringToken, text.String(), at}, i + 1, nil
		default:
			text.WriteByte(src[i])
		}
	}
	return token{}, 0, fmt.Errorf("the string at position %d has no end", at+1)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' }
