package dialects

import (
	"fmt"
	"net/http"
)

// Failure is why a call failed, before a vendor's API says it in its own shape.
type Failure struct {
	Status  int
	Message string
	// Fields are the errors of the input, for 400 and 422.
	Fields []FieldError
	// Code is RFC 6749's word for the error, of the token endpoints alone.
	Code string
	// Header goes with the answer.
	Header http.Header
}

// FieldError is the error of one field of the input; Field is the vendor's name of it.
type FieldError struct{ Field, Message string }

func (f *Failure) Error() string { return fmt.Sprintf("%d %s", f.Status, f.Message) }

// NotFound is what every id gets that is not the caller's, be it foreign, gone or malformed.
func NotFound(message string) *Failure {
	return &Failure{Status: http.StatusNotFound, Message: message}
}

// Invalid refuses the input for errors of its fields.
func Invalid(fields ...FieldError) *Failure {
	return &Failure{Status: http.StatusUnprocessableEntity, Message: "The given data was invalid.", Fields: fields}
}

// BadRequest refuses a request that cannot be understood.
func BadRequest(format string, args ...any) *Failure {
	return &Failure{Status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...)}
}

// Forbidden refuses what the caller's key does not allow.
func Forbidden(message string) *Failure {
	return &Failure{Status: http.StatusForbidden, Message: message}
}

func unauthorized() *Failure {
	return &Failure{Status: http.StatusUnauthorized, Message: "Unauthenticated.", Header: http.Header{
		"Www-Authenticate": {`Bearer realm="fanfare"`},
	}}
}

func internalError() *Failure {
	return &Failure{Status: http.StatusInternalServerError, Message: http.StatusText(http.StatusInternalServerError)}
}
