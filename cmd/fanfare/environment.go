package main

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"text/template"

	"github.com/kelseyhightower/envconfig"
)

// envPrefix starts the name of every setting.
const envPrefix = "FANFARE"

// section is one package's Config, filled with its defaults.
type section struct {
	name string
	spec any // a pointer to a struct with envconfig tags
}

// setting is one environment variable.
type setting struct {
	Section     string `json:"section"`
	Name        string `json:"name"`
	Default     string `json:"default"`
	Value       string `json:"value"` // empty unless set; secrets are not shown
	Set         bool   `json:"set"`
	Description string `json:"description"`
}

// readEnvironment fills the sections from the environment, and validates them. An error names the variable. A
// variable that is set to nothing counts as not set.
func readEnvironment(sections []section) error {
	variables := describe(sections)
	for _, v := range variables {
		// envconfig would also take ADDR for FANFARE_ADDR; another program's variables must not reach us.
		if err := os.Unsetenv(strings.TrimPrefix(v.Name, envPrefix+"_")); err != nil {
			return err
		}
		if os.Getenv(v.Name) == "" {
			if err := os.Unsetenv(v.Name); err != nil {
				return err
			}
		}
	}
	forget, err := readSecretFiles(variables)
	defer forget()
	if err != nil {
		return err
	}
	for _, s := range sections {
		if err := envconfig.Process(envPrefix, s.spec); err != nil {
			if bad, ok := errors.AsType[*envconfig.ParseError](err); ok {
				return fmt.Errorf("%s is %q, which is no %s: %w", bad.KeyName, bad.Value, strings.ToLower(bad.TypeName), bad.Err)
			}
			return fmt.Errorf("read the settings of %s: %w", s.name, err)
		}
		if v, ok := s.spec.(interface{ Validate() error }); ok {
			if err := v.Validate(); err != nil {
				return err
			}
		}
	}
	return nil
}

// fileSuffix makes the name of a variable that says in which file a secret is.
const fileSuffix = "_FILE"

// readSecretFiles sets each variable whose _FILE is set, from that file, until forget is called: child processes inherit no secret.
func readSecretFiles(variables []setting) (forget func(), err error) {
	var read []string
	forget = func() {
		for _, name := range read {
			_ = os.Unsetenv(name) // It was set just now.
		}
	}
	for _, v := range variables {
		name, isFile := strings.CutSuffix(v.Name, fileSuffix)
		if !isFile || os.Getenv(v.Name) == "" {
			continue
		}
		if os.Getenv(name) != "" {
			return forget, fmt.Errorf("%s and %s must not be set together", name, v.Name)
		}
		content, err := os.ReadFile(os.Getenv(v.Name))
		if err != nil {
			return forget, fmt.Errorf("%s: %w", v.Name, err)
		}
		secret := strings.TrimSpace(string(content))
		if secret == "" {
			return forget, fmt.Errorf("%s: the file %s is empty", v.Name, os.Getenv(v.Name))
		}
		if err := os.Setenv(name, secret); err != nil {
			return forget, fmt.Errorf("%s: %w", v.Name, err)
		}
		read = append(read, name)
	}
	return forget, nil
}

// refuseUnknown refuses variables of our prefix that no section knows if FANFARE_STRICT is set, and otherwise warns of each.
func (s *settings) refuseUnknown(warn func(variable, nearest string)) error {
	known := describe(newSettings().sections())
	unknown := unknownVariables(known)
	var refused []string
	for _, name := range unknown {
		near := nearest(name, known)
		if !s.server.Strict {
			warn(name, near)
		} else if near != "" {
			name += " (did you mean " + near + "?)"
		}
		refused = append(refused, name)
	}
	if s.server.Strict && len(refused) > 0 {
		return fmt.Errorf("FANFARE_STRICT is set, and no setting is called %s", strings.Join(refused, ", "))
	}
	return nil
}

// nearest is the known variable that is most like the name; empty if none is.
func nearest(name string, known []setting) (best string) {
	const mostEdits = 4
	least := mostEdits + 1
	for _, s := range known {
		if d := edits(name, s.Name); d < least {
			best, least = s.Name, d
		}
	}
	return best
}

// edits counts the characters to insert, remove or replace until a is b.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// unknownVariables are those of our prefix that no section knows: misspelt ones, most likely. What Kubernetes
// sets for a service called fanfare is none of them.
func unknownVariables(known []setting) []string {
	var unknown []string
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		ours := strings.HasPrefix(name, envPrefix+"_")
		kubernetes := strings.Contains(name, "_SERVICE_") || strings.HasPrefix(name, envPrefix+"_PORT")
		if ours && !kubernetes && !slices.ContainsFunc(known, func(s setting) bool { return s.Name == name }) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}

// describe lists the variables of the sections, which must not have been read yet: their values are the defaults.
func describe(sections []section) []setting {
	var all []setting
	for _, s := range sections {
		record := func(name string, field reflect.Value, tags reflect.StructTag) string {
			def := tags.Get("default")
			if def == "" {
				def = show(field)
			}
			value, set := os.LookupEnv(name)
			all = append(all, setting{
				Section: s.name, Name: name, Default: def,
				Value: masked(name, value), Set: set && value != "", Description: tags.Get("desc"),
			})
			if tags.Get("secret") == "true" {
				path, set := os.LookupEnv(name + fileSuffix)
				all = append(all, setting{
					Section: s.name, Name: name + fileSuffix, Value: path, Set: set && path != "",
					Description: "path of a file that holds " + name,
				})
			}
			return ""
		}
		t := template.Must(template.New("").Funcs(template.FuncMap{"record": record}).
			Parse(`{{range .}}{{record .Key .Field .Tags}}{{end}}`))
		if err := envconfig.Usaget(envPrefix, s.spec, io.Discard, t); err != nil {
			panic(fmt.Sprintf("the settings of %s cannot be described: %v", s.name, err)) // A mistake in the struct.
		}
	}
	return all
}

// show writes a default as it would be set.
func show(v reflect.Value) string {
	if v.IsZero() {
		return ""
	}
	switch x := v.Interface().(type) {
	case encoding.TextMarshaler:
		if text, err := x.MarshalText(); err == nil {
			return string(text)
		}
	case fmt.Stringer:
		return x.String()
	case []string:
		return strings.Join(x, ",")
	}
	return fmt.Sprint(v.Interface())
}

// masked hides secrets: keys, secrets, and passwords in URLs.
func masked(name, value string) string {
	for _, secret := range []string{"_KEY", "_KEYS", "_SECRET", "_PASSWORD", "_TOKEN"} {
		if value != "" && strings.HasSuffix(name, secret) {
			return "(set)"
		}
	}
	if !strings.HasSuffix(name, "_URL") && !strings.HasSuffix(name, "_PROXY") {
		return value
	}
	urls := strings.Split(value, ",")
	for i, u := range urls {
		urls[i] = maskURL(u)
	}
	return strings.Join(urls, ",")
}

// maskURL hides the password of a URL, or the token that stands for a user.
func maskURL(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return raw
	}
	if _, err := url.Parse(raw); err != nil {
		return "(set)" // Where its password ends is anybody's guess.
	}
	authority, path, _ := strings.Cut(rest, "/")
	at := strings.LastIndexByte(authority, '@')
	if at < 0 {
		return raw
	}
	user, _, password := strings.Cut(authority[:at], ":")
	if password || scheme == "nats" || scheme == "tls" {
		user += ":***"
		if !password {
			user = "***"
		}
	}
	masked := scheme + "://" + user + authority[at:]
	if len(rest) > len(authority) {
		masked += "/" + path
	}
	return masked
}
