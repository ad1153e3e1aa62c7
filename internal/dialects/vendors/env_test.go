package vendors_test

import (
	"strings"
	"testing"

	"github.com/kelseyhightower/envconfig"

	"github.com/fanfarehq/fanfare/internal/dialects/vendors"
)

// The variables are named as the documents name them, and the vendors' own do not hide each other.
func TestEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"FANFARE_DIALECTS": "kajabi,leat", "FANFARE_LEAT_EVENT_TYPES": "voucher_deleted,other", "FANFARE_PASSONA_EVENT_TYPE": "keyword.received",
		"FANFARE_BABELFOR_ID_HEADER": "X-Number",
	} {
		t.Setenv(name, value)
	}
	var c vendors.Config
	if err := envconfig.Process("FANFARE", &c); err != nil {
		t.Fatal(err)
	}
	if strings.Join(c.Dialects, " ") != "kajabi leat" || len(c.LeatConfig.EventTypes) != 2 || c.PassonaConfig.EventType != "keyword.received" ||
		c.IDHeader != "X-Number" || c.SignatureHeader != "X-Webhook-Signature" || c.Validate() != nil {
		t.Errorf("got %+v, %v", c, c.Validate())
	}
}
