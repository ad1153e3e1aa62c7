package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/internal/api"
)

type greetingInput struct {
	Body struct {
		Name string `json:"name" minLength:"1"`
	}
}

type greetingOutput struct {
	Body struct {
		Greeting string `json:"greeting"`
	}
}

func Example() {
	mux := http.NewServeMux()
	greetings := api.New(mux, api.Config{Title: "Greetings", Version: "1"}, callers)
	huma.Post(greetings, "/v1/greetings", func(ctx context.Context, in *greetingInput) (*greetingOutput, error) {
		tenant, err := api.TenantOf(ctx, "")
		if err != nil {
			return nil, err
		}
		out := &greetingOutput{}
		out.Body.Greeting = "Hello " + in.Body.Name + " of " + tenant
		return out, nil
	}, api.Scope("things:write"))

	for _, body := range []string{`{"name":"Ada"}`, `{}`} {
		r := httptest.NewRequest(http.MethodPost, "/v1/greetings", strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer acme")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Print(w.Code, " ", w.Body)
	}
	// Output:
	// 200 {"greeting":"Hello Ada of acme"}
	// 422 {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"validation failed","errors":[{"message":"is required","location":"body.name"}]}
}
