package access

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode"
)

// MinAdminKey is the shortest admin key that the environment may give, in bytes.
const MinAdminKey = 24

// Config names credentials beside the keys in Postgres.
type Config struct {
	AdminKey string `envconfig:"ADMIN_KEY" secret:"true" desc:"the first admin key, 24 characters or more (empty: only admin keys made over the API)"`

	JWKSURL     string        `envconfig:"JWKS_URL" desc:"where the identity provider publishes its keys (empty: no JWTs)"`
	JWTIssuer   string        `envconfig:"JWT_ISSUER" desc:"the iss that tokens must have (empty: any; required of every token once set)"`
	JWTAudience string        `envconfig:"JWT_AUDIENCE" desc:"the aud that tokens must have (empty: any; required of every token once set)"`
	JWTMaxTTL   time.Duration `envconfig:"JWT_MAX_TTL" default:"24h" desc:"the furthest that the exp of a token may lie ahead"`
}

// DefaultConfig is that of an empty environment.
func DefaultConfig() Config {
	return Config{JWTMaxTTL: 24 * time.Hour}
}

// Validate names the variable that is wrong, and never shows the admin key.
func (c Config) Validate() error {
	var errs []error
	if c.AdminKey != "" && len(c.AdminKey) < MinAdminKey {
		errs = append(errs, fmt.Errorf("FANFARE_ADMIN_KEY: must have %d characters or more", MinAdminKey))
	}
	if c.AdminKey != strings.TrimSpace(c.AdminKey) || strings.ContainsFunc(c.AdminKey, unicode.IsControl) {
		errs = append(errs, errors.New("FANFARE_ADMIN_KEY: must not begin or end in a space nor hold control characters, since no header can carry it"))
	}
	if c.JWKSURL != "" {
		if u, err := url.Parse(c.JWKSURL); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			errs = append(errs, errors.New("FANFARE_JWKS_URL: must be an http or https URL"))
		}
	}
	if c.JWTMaxTTL < 0 {
		errs = append(errs, errors.New("FANFARE_JWT_MAX_TTL: must not be negative"))
	}
	return errors.Join(errs...)
}
