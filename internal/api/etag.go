package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
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

// Precondition is embedded in the inputs of operations that change one version of a resource.
type Precondition struct {
	IfMatch     string `header:"If-Match" doc:"The ETag of the version to change: 412 if it is no longer the current one."`
	IfNoneMatch string `header:"If-None-Match" doc:"ETags of versions that must not be the current one, or * for any: then 412."`
}

// Check is Stale unless the current version is one that may be changed.
func (p Precondition) Check(etag string) error {
	if err := CheckIfMatch(p.IfMatch, etag); err != nil {
		return err
	}
	if names(p.IfNoneMatch, etag) {
		return problem(http.StatusPreconditionFailed, "the resource exists", At("header.If-None-Match", "names the current version"))
	}
	return nil
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

// names reports whether the value of If-None-Match names a version, weakly or not (RFC 9110, 13.1.2), or any (*).
func names(ifNoneMatch, etag string) bool {
	for candidate := range strings.SplitSeq(ifNoneMatch, ",") {
		candidate = strings.TrimSpace(candidate)
		if candidate == "*" || candidate != "" && strings.TrimPrefix(candidate, "W/") == etag {
			return true
		}
	}
	return false
}

// sendsETag reports whether the successful answer of an operation carries an ETag.
func sendsETag(op *huma.Operation) bool {
	for _, response := range op.Responses {
		if response.Headers["ETag"] != nil {
			return true
		}
	}
	return false
}

// documentNotModified adds to a GET whose answer has an ETag what humaContext makes of If-None-Match.
func documentNotModified(op *huma.Operation) {
	if op.Method != http.MethodGet || !sendsETag(op) {
		return
	}
	op.Parameters = append(op.Parameters, &huma.Param{
		Name: "If-None-Match", In: "header", Description: "ETags that the caller has: 304 without a body if one is the current one.",
		Schema: &huma.Schema{Type: huma.TypeString},
	})
	op.Responses[strconv.Itoa(http.StatusNotModified)] = &huma.Response{
		Description: http.StatusText(http.StatusNotModified),
		Headers:     map[string]*huma.Header{"ETag": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}
}
