package vendors

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fanfarehq/fanfare/internal/dialects/babelfor"
	"github.com/fanfarehq/fanfare/internal/dialects/kajabi"
	"github.com/fanfarehq/fanfare/internal/dialects/leat"
	"github.com/fanfarehq/fanfare/internal/dialects/passona"
)

// The vendors' own settings, under names that can be embedded side by side.
type (
	// LeatConfig is Leat's.
	LeatConfig = leat.Config
	// PassonaConfig is Passona's.
	PassonaConfig = passona.Config
	// BabelforConfig is Babelfor's.
	BabelforConfig = babelfor.Config
)

// Config is which vendors' APIs are served, and how.
type Config struct {
	// Dialects are names; none is all or nothing, see Names.
	Dialects []string `envconfig:"DIALECTS" desc:"vendors' APIs that are served: leat,kajabi,passona,babelfor, or off (empty: all of them in all, none in other roles)"`
	LeatConfig
	PassonaConfig
	BabelforConfig
}

// DefaultConfig is that of an empty environment.
func DefaultConfig() Config { return Config{BabelforConfig: babelfor.DefaultConfig()} }

// names are all that there are.
func names() []string { return []string{leat.Name, kajabi.Name, passona.Name, babelfor.Name} }

// off is what stands for no vendor at all.
const off = "off"

// Validate names the variable that cannot be used.
func (c Config) Validate() error {
	var errs []error
	given := c.given()
	for _, name := range given {
		if !slices.Contains(names(), name) && (name != off || len(given) > 1) {
			errs = append(errs, fmt.Errorf("FANFARE_DIALECTS: %q is none of %s, nor off alone", name, strings.Join(names(), ", ")))
		}
	}
	return errors.Join(append(errs, c.LeatConfig.Validate(), c.PassonaConfig.Validate(), c.BabelforConfig.Validate())...)
}

// Names are the vendors whose APIs are served. Where the setting is empty, everything says whether that is all of
// them: it is in a process that plays every role.
func (c Config) Names(everything bool) []string {
	given := c.given()
	if len(given) == 0 && everything {
		return names()
	}
	return slices.DeleteFunc(given, func(name string) bool { return name == off })
}

// given are the names that were set, each once, without the spaces that people write after commas.
func (c Config) given() []string {
	var given []string
	for _, name := range c.Dialects {
		if name = strings.TrimSpace(name); !slices.Contains(given, name) {
			given = append(given, name)
		}
	}
	return given
}
