package vendors_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// Kinds of values, as the vendor documents them for its samples.
const (
	text = "text"
	num  = "number"
	yes  = "boolean"
	date = "date"
	null = "null" // may also be a text
	obj  = "object"
)

// resources are the attributes and relationships of each type in the samples.
var resources = map[string]struct {
	attributes    map[string]string
	relationships string // those with a list have []; lists of order_items, fields and contact_tags hold one
}{
	"purchases": {map[string]string{
		"amount_in_cents": num, "payment_type": text, "multipay_payments_made": null, "opt_in": yes, "raw_extra_contact_information": obj,
		"currency": text, "effective_start_at": null, "cardholder_name": null, "billing_address_zip": null, "deactivated_at": null,
		"deactivation_reason": null, "coupon_code": null, "source": null, "referrer": null, "quantity": num, "created_at": date, "updated_at": date,
	}, "customer offer products[]"},
	"offers": {map[string]string{
		"title": text, "description": null, "internal_title": null, "currency": text, "price_in_cents": num, "payment_type": text,
		"token": text, "image_url": null, "payment_method": text, "price_description": text, "checkout_url": text,
		"recurring_offer": yes, "subscription": yes, "one_time": yes, "single": yes, "free": yes,
	}, "forms[] products[] site"},
	"customers": {map[string]string{
		"name": text, "email": text, "avatar": null, "external_user_id": null, "public_bio": null, "public_location": null, "public_website": null,
		"socials": null, "net_revenue": text, "sign_in_count": num, "last_request_at": null, "bounced_at": null, "created_at": date, "updated_at": date,
	}, "contact offers[] products[] site"},
	"transactions": {map[string]string{
		"action": text, "state": text, "payment_type": text, "amount_in_cents": num, "sales_tax_in_cents": num, "currency": text,
		"currency_symbol": text, "formatted_amount": text, "created_at": date,
	}, "customer offer"},
	"orders": {map[string]string{
		"order_number": num, "currency_code": text, "fulfilled_at": null, "created_at": date, "total_price_in_cents": num, "subtotal_in_cents": num,
		"sales_tax_amount_in_cents": num, "discount_amount_in_cents": num, "formatted_total_price": text, "formatted_subtotal": text, "currency_symbol": text,
	}, "customer order_items[] payment_transactions[] site"},
	"order_items": {map[string]string{
		"quantity": num, "currency_code": text, "item_type": text, "item_id": num, "title": text, "fulfilled_at": null, "created_at": date,
		"total_price_in_cents": num, "subtotal_in_cents": num, "sales_tax_amount_in_cents": num, "discount_amount_in_cents": num,
		"formatted_total_price": text, "formatted_subtotal": text, "currency_symbol": text,
	}, "order"},
	"form_submissions": {map[string]string{
		"name": text, "email": text, "address_line_1": null, "address_line_2": null, "address_city": null, "address_country": null,
		"address_state": null, "address_zip": null, "phone_number": null, "business_number": null, "mobile_phone_number": null,
	}, "form site"},
	"forms": {map[string]string{
		"url": text, "title": text, "default": yes, "webhook_url": null, "created_at": null, "updated_at": null,
	}, "contact_tags[] fields[] site"},
	"contacts": {map[string]string{
		"name": text, "email": text, "address_line_1": text, "address_line_2": text, "address_city": text, "address_country": text,
		"address_state": text, "address_zip": text, "phone_number": text, "business_number": null, "subscribed": yes,
		"external_user_id": null, "created_at": date, "updated_at": date,
	}, "site"},
	"contact_tags": {map[string]string{"name": text}, "site"},
}

// sampled are the types of the resources in each event's sample.
var sampled = map[string]string{
	"purchase": "purchases offers customers", "payment_succeeded": "transactions customers",
	"order_created": "transactions customers orders order_items", "form_submission": "form_submissions forms",
	"tag_added": "contacts contact_tags", "tag_removed": "contacts contact_tags",
}

// checkSample compares the sample of one of Kajabi's events with the vendor's documentation.
func checkSample(t *testing.T, event string, sample []byte) {
	t.Helper()
	var list []struct {
		ID, Type      string
		Attributes    map[string]any
		Relationships map[string]struct{ Data any }
	}
	if err := json.Unmarshal(sample, &list); err != nil {
		t.Fatalf("%s: %v", event, err)
	}
	var got []string
	for _, r := range list {
		got = append(got, r.Type)
		want := resources[r.Type]
		if r.ID == "" {
			t.Errorf("%s: %s without an id", event, r.Type)
		}
		for _, name := range slices.Sorted(maps.Keys(want.attributes)) {
			if value, ok := r.Attributes[name]; !ok || !fits(value, want.attributes[name]) {
				t.Errorf("%s: %s.%s is %v, want %s", event, r.Type, name, value, want.attributes[name])
			}
		}
		for name := range r.Attributes {
			if want.attributes[name] == "" {
				t.Errorf("%s: %s.%s is not the vendor's", event, r.Type, name)
			}
		}
		var relationships []string
		for name, to := range r.Relationships {
			if list, many := to.Data.([]any); many {
				// The vendor's own samples leave these empty, and its schema gives their items other types.
				if slices.Contains([]string{"products", "offers", "payment_transactions", "forms"}, name) && len(list) > 0 {
					t.Errorf("%s: %s.%s is %v, want an empty list", event, r.Type, name, list)
				}
				name += "[]"
			}
			relationships = append(relationships, name)
		}
		slices.Sort(relationships)
		if joined := strings.Join(relationships, " "); joined != want.relationships {
			t.Errorf("%s: %s relates to %s, want %s", event, r.Type, joined, want.relationships)
		}
	}
	if joined := strings.Join(got, " "); joined != sampled[event] {
		t.Errorf("%s: got %s, want %s", event, joined, sampled[event])
	}
}

func fits(value any, kind string) bool {
	switch v := value.(type) {
	case nil:
		return kind == null
	case string:
		_, err := time.Parse("2006-01-02T15:04:05.000Z", v)
		return kind == text || kind == null || kind == date && err == nil
	case float64:
		return kind == num
	case bool:
		return kind == yes
	case map[string]any:
		return kind == obj
	}
	return false
}
