package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

// ETag is a strong one of the parts that make a version: an id and a revision, or the whole JSON form.
func ETag(parts ...any) string {
	h := sha256.New()
	for _, part := range parts {
		text, err := json.Marshal(part)
		if err != nil {
			text = fmt.Appendf(nil, "%#v", part)
		}
		fmt.Fprintf(h, "%d:", len(text))
		h.Write(text)
	}
	return `"` + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:12]) + `"`
}

// CheckIfMatch is Stale if the header If-Match is there and names neither this version nor any (*).
func CheckIfMatch(ifMatch, etag string) error {
	if ifMatch == "" {
		return nil
	}
	for candidate := range strings.SplitSeq(ifMatch, ",") {
		// A weak tag never matches here (RFC 9110, 13.1.1).
		if candidate = strings.TrimSpace(candidate); candidate == etag || candidate == "*" {
			return nil
		}
	}
	return Stale()
}
