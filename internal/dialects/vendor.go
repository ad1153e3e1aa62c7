package dialects

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// Vendor is one vendor's API: its routes, and the one way in which it says that something failed.
type Vendor struct {
	// Name is the dialect's name, as in FANFARE_DIALECTS and a subscription's dialect.
	Name string
	// Prefixes are the paths that the vendor owns, each with all below it.
	Prefixes []string
	// Fail writes a failure in the vendor's shape, whichever it is.
	Fail func(w http.ResponseWriter, f *Failure)
	// Malformed is the failure of a body that cannot be decoded.
	Malformed func(err error) *Failure

	auth   *access.Grants
	log    *slog.Logger
	routes []route
}

// Handler serves one route. A *Failure that it returns is answered as such, anything else as the
// unavailability or the internal error that it is.
type Handler func(c *Call) error

// Methods are the handlers of a path.
type Methods map[string]Handler

// route is a path of literal and {named} segments with its methods.
type route struct {
	segments []string
	methods  Methods
	public   bool
}

// callTimeout is how long a call may take; a vendor's clients have given up by then.
const callTimeout = 20 * time.Second

// New makes a vendor without routes.
func New(name string, deps Deps) *Vendor {
	return &Vendor{Name: name, auth: deps.Auth, log: deps.Log}
}

// Handle adds a path whose methods need a key. Paths that were added first win.
func (v *Vendor) Handle(path string, methods Methods) {
	v.routes = append(v.routes, route{segments: segments(path), methods: methods})
}

// HandlePublic adds a path whose methods need no key.
func (v *Vendor) HandlePublic(path string, methods Methods) {
	v.routes = append(v.routes, route{segments: segments(path), methods: methods, public: true})
}

// Routes are the vendor's paths with their methods, as in "GET /v1/hooks/{id}"; those that need no key are left out.
func (v *Vendor) Routes() []string {
	var list []string
	for _, r := range v.routes {
		for method := range r.methods {
			if !r.public {
				list = append(list, method+" /"+strings.Join(r.segments, "/"))
			}
		}
	}
	slices.Sort(list)
	return list
}

// owns says whether the clean path is the vendor's.
func (v *Vendor) owns(path string) bool {
	return slices.ContainsFunc(v.Prefixes, func(prefix string) bool {
		return path == prefix || strings.HasPrefix(path, prefix+"/")
	})
}

// ServeHTTP answers a request of one of the vendor's paths, every failure included. The path is clean.
func (v *Vendor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(api.WithRemoteAddr(r.Context(), r.RemoteAddr), callTimeout)
	defer cancel()
	out := &answer{ResponseWriter: w}
	c := &Call{W: out, R: r.WithContext(ctx), auth: v.auth}
	defer v.recover(out, c)
	// Answers hold other people's text and, with some vendors, secrets.
	out.Header().Set("X-Content-Type-Options", "nosniff")
	out.Header().Set("Cache-Control", "no-store")
	if err := v.serve(c); err != nil {
		v.fail(c, err)
	}
}

func (v *Vendor) serve(c *Call) error {
	found, params := v.find(c.R.URL.Path)
	if found == nil {
		return NotFound(http.StatusText(http.StatusNotFound))
	}
	method := c.R.Method
	if method == http.MethodHead {
		method = http.MethodGet // the server leaves the body out
	}
	handler, ok := found.methods[method]
	if !ok {
		return found.otherMethod(c)
	}
	if !found.public {
		if err := c.authenticate(); err != nil {
			return err
		}
		watched, done := v.auth.Watch(api.WithCaller(c.R.Context(), c.Caller), c.Caller)
		defer done()
		c.R = c.R.WithContext(watched)
	}
	c.params = params
	return handler(c)
}

func (v *Vendor) find(path string) (*route, map[string]string) {
	parts := segments(path)
	for i := range v.routes {
		if params, ok := v.routes[i].match(parts); ok {
			return &v.routes[i], params
		}
	}
	return nil, nil
}

func (r *route) match(path []string) (map[string]string, bool) {
	if len(path) != len(r.segments) {
		return nil, false
	}
	var params map[string]string
	for i, segment := range r.segments {
		if strings.HasPrefix(segment, "{") {
			if params == nil {
				params = map[string]string{}
			}
			params[segment[1:len(segment)-1]] = path[i]
		} else if segment != path[i] {
			return nil, false
		}
	}
	return params, true
}

// otherMethod answers what the path has no handler for: OPTIONS with what there is, anything else with 405.
func (r *route) otherMethod(c *Call) error {
	allowed := []string{http.MethodOptions}
	for method := range r.methods {
		allowed = append(allowed, method)
		if method == http.MethodGet {
			allowed = append(allowed, http.MethodHead)
		}
	}
	slices.Sort(allowed)
	allow := strings.Join(allowed, ", ")
	if c.R.Method == http.MethodOptions {
		c.W.Header().Set("Allow", allow)
		c.W.WriteHeader(http.StatusNoContent)
		return nil
	}
	return &Failure{
		Status:  http.StatusMethodNotAllowed,
		Message: "The " + methodName(c.R.Method) + " method is not supported for this route. Supported methods: " + allow + ".",
		Header:  http.Header{"Allow": {allow}},
	}
}

// methodName bounds the part of a request that an answer repeats.
func methodName(method string) string { return method[:min(len(method), 20)] }

// fail answers an error in the vendor's shape. What is nobody's fault but ours is logged, and said without details.
func (v *Vendor) fail(c *Call, err error) {
	failure := v.failureOf(c, err)
	for name, values := range failure.Header {
		c.W.Header()[name] = values
	}
	v.Fail(c.W, failure)
}

func (v *Vendor) failureOf(c *Call, err error) *Failure {
	if failure, ok := errors.AsType[*Failure](err); ok {
		return failure
	}
	if errors.Is(err, errMalformed) {
		return v.Malformed(err)
	}
	if errors.Is(err, api.ErrUnauthenticated) {
		return unauthorized()
	}
	if postgres.IsUnavailable(err) || errors.Is(err, jetstream.ErrUnavailable) || errors.Is(err, jetstream.ErrFull) {
		err = api.Unavailable(err)
	}
	problem, header := api.ProblemOf(c.R.Context(), err)
	if problem.Status >= http.StatusInternalServerError {
		v.complain(c, problem.Status, err)
	}
	if problem.Status == http.StatusInternalServerError {
		return internalError()
	}
	return &Failure{Status: problem.Status, Message: problem.Detail, Header: header}
}

// complain logs what the caller is not told, unless he has left.
func (v *Vendor) complain(c *Call, status int, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	level := slog.LevelError
	if status == http.StatusServiceUnavailable {
		level = slog.LevelWarn
	}
	v.log.Log(c.R.Context(), level, "dialect failed", "dialect", v.Name, "method", c.R.Method, "path", c.R.URL.Path, "error", err)
}

// recover turns a panic into 500. If the answer has begun the connection is cut instead, so that nobody takes the
// part for the whole.
func (v *Vendor) recover(w *answer, c *Call) {
	cause := recover()
	if cause == nil {
		return
	}
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler)
	}
	v.log.Error("dialect panicked", "dialect", v.Name, "method", c.R.Method, "path", c.R.URL.Path,
		"panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
	if w.begun {
		panic(http.ErrAbortHandler)
	}
	v.Fail(w, internalError())
}

// answer knows whether the answer has begun.
type answer struct {
	http.ResponseWriter
	begun bool
}

func (w *answer) WriteHeader(status int) {
	w.begun = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *answer) Write(b []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController set deadlines.
func (w *answer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func segments(path string) []string {
	return strings.Split(strings.TrimPrefix(path, "/"), "/")
}
