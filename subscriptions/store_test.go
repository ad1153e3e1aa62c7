package subscriptions_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

func TestEveryFieldComesBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	made := b.create(t, example(t))
	if made.Number == 0 || made.Revision == 0 || made.ID == uuid.Nil || made.CreatedAt.IsZero() {
		t.Errorf("not filled in: %+v", made)
	}
	read, err := b.store.Get(t.Context(), "acme", made.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(read, made) {
		t.Errorf("store:\n got %+v\nwant %+v", read, made)
	}
	b.fresh(t)
	known, ok := b.dir.Get(made.ID)
	if !ok || !reflect.DeepEqual(known, made) {
		t.Errorf("directory:\n got %+v\nwant %+v", known, made)
	}
	v := reflect.ValueOf(*made)
	for i := range v.NumField() {
		switch name := v.Type().Field(i).Name; name {
		case "DisabledReason", "Err", "Deleted":
		default:
			if v.Field(i).IsZero() {
				t.Errorf("the example leaves %s open", name)
			}
		}
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	b := setup(t)
	made := b.create(t, plain("acme", "a", "a"))
	want := &subscriptions.Subscription{
		ID: made.ID, Number: made.Number, Tenant: "acme", Dialect: subscriptions.Native, Name: "plain", URL: "https://example.com/",
		EventTypes: []string{"a"}, PayloadFormat: "standard", Timeout: subscriptions.DefaultTimeout, MaxInFlight: subscriptions.DefaultMaxInFlight,
		Signing: subscriptions.SignHMAC, Secrets: made.Secrets, Status: subscriptions.Active, Version: "V1", Scopes: []string{subscriptions.AllScopes},
		CreatedAt: made.CreatedAt, UpdatedAt: made.CreatedAt, Revision: made.Revision,
	}
	read, err := b.store.Get(t.Context(), "", made.ID)
	if err != nil || !reflect.DeepEqual(read, want) {
		t.Errorf("got %+v, %v\nwant %+v", read, err, want)
	}
	if len(made.Secrets) != 1 || !isSecret(made.Secrets[0].Value) {
		t.Errorf("generated secrets: %v", made.Secrets)
	}
}

func TestUpdateNeedsTheCurrentRevision(t *testing.T) {
	t.Parallel()
	b := setup(t)
	made := b.create(t, plain("acme", "a"))
	mine, theirs := *made, *made
	mine.Name, theirs.Name = "mine", "theirs"
	if err := b.store.Update(t.Context(), &mine); err != nil {
		t.Fatal(err)
	}
	if mine.Revision <= made.Revision || !mine.UpdatedAt.After(made.UpdatedAt) {
		t.Errorf("revision %d -> %d, updated %s -> %s", made.Revision, mine.Revision, made.UpdatedAt, mine.UpdatedAt)
	}
	if err := b.store.Update(t.Context(), &theirs); !errors.Is(err, subscriptions.ErrChanged) {
		t.Errorf("stale update: got %v, want ErrChanged", err)
	}
	read, err := b.store.Get(t.Context(), "acme", made.ID)
	if err != nil || read.Name != "mine" {
		t.Errorf("got %q, %v", read.Name, err)
	}
}

func TestTenantsAreApart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	made := b.create(t, plain("acme", "a"))
	ctx := t.Context()
	stolen := *made
	stolen.Tenant = "globex"
	_, pauseErr := b.store.Pause(ctx, "globex", made.ID)
	_, resumeErr := b.store.Resume(ctx, "globex", made.ID)
	_, enableErr := b.store.Enable(ctx, "globex", made.ID)
	_, getErr := b.store.Get(ctx, "globex", made.ID)
	_, numberErr := b.store.GetByNumber(ctx, "globex", subscriptions.Native, made.Number)
	for name, err := range map[string]error{
		"get": getErr, "number": numberErr, "update": b.store.Update(ctx, &stolen), "delete": b.store.Delete(ctx, "globex", made.ID),
		"pause": pauseErr, "resume": resumeErr, "enable": enableErr,
	} {
		if !errors.Is(err, subscriptions.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", name, err)
		}
	}
	if list, err := b.store.List(ctx, subscriptions.Query{Tenant: "globex"}); err != nil || len(list) != 0 {
		t.Errorf("list: got %d, %v", len(list), err)
	}
	b.fresh(t)
	if got, _ := b.dir.Match(&event.Event{Tenant: "globex", Type: "a", Targets: []uuid.UUID{made.ID}}); len(got) != 0 {
		t.Errorf("another tenant's event reaches %v", got)
	}
}

func TestDeleteLeavesATombstoneWithoutContents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	made := b.create(t, example(t))
	other := b.create(t, plain("acme", "order.created"))
	before := b.fresh(t)
	if err := b.store.Delete(t.Context(), "acme", made.ID); err != nil {
		t.Fatal(err)
	}
	if err := b.store.Delete(t.Context(), "acme", made.ID); !errors.Is(err, subscriptions.ErrNotFound) {
		t.Errorf("again: got %v, want ErrNotFound", err)
	}
	var text string
	if err := b.db.QueryRow(`SELECT subscriptions::text FROM subscriptions WHERE deleted`).Scan(&text); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"example.com", "ERP", "prod", "team", "total"} {
		if strings.Contains(text, secret) {
			t.Errorf("the tombstone holds %q: %s", secret, text)
		}
	}
	if after := b.fresh(t); after <= before {
		t.Errorf("revision %d -> %d", before, after)
	}
	if _, ok := b.dir.Get(made.ID); ok {
		t.Error("the directory has it still")
	}
	if _, ok := b.dir.Get(other.ID); !ok {
		t.Error("the directory lost the other one")
	}
}

func TestStatusChanges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	made := b.create(t, plain("acme", "a"))
	ctx := t.Context()
	is := func(step string, status subscriptions.Status, reason string) {
		t.Helper()
		read, err := b.store.Get(ctx, "acme", made.ID)
		if err != nil || read.Status != status || read.DisabledReason != reason {
			t.Errorf("%s: got %+v, %v", step, read, err)
		}
		b.fresh(t)
		known, _ := b.dir.Get(made.ID)
		if known.Status != status {
			t.Errorf("%s: the directory has %s", step, known.Status)
		}
		matched, _ := b.dir.Match(&event.Event{Tenant: "acme", Type: "a"})
		if got, want := len(matched) == 1, status != subscriptions.Disabled; got != want {
			t.Errorf("%s: matched %t, want %t", step, got, want)
		}
	}
	must := func(_ *subscriptions.Subscription, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(b.store.Pause(ctx, "acme", made.ID))
	is("pause", subscriptions.Paused, "")
	revision := b.fresh(t)
	must(b.store.Pause(ctx, "acme", made.ID))
	if b.fresh(t) != revision {
		t.Error("a pause that changes nothing takes a revision")
	}
	must(b.store.Resume(ctx, "acme", made.ID))
	is("resume", subscriptions.Active, "")
	disable := func(id uuid.UUID, revision int64, reason string, want bool) {
		t.Helper()
		if done, err := b.store.Disable(ctx, id, revision, reason); err != nil || done != want {
			t.Errorf("disable for %s: got %t, %v, want %t", reason, done, err, want)
		}
	}
	disable(made.ID, made.Revision, "gone", false) // It was paused and resumed since.
	is("disable as it was before", subscriptions.Active, "")
	read, err := b.store.Get(ctx, "acme", made.ID)
	if err != nil {
		t.Fatal(err)
	}
	disable(made.ID, read.Revision, "gone", true)
	disable(made.ID, read.Revision+2, "manual", false)
	is("disable", subscriptions.Disabled, "gone")
	if _, err := b.store.Pause(ctx, "acme", made.ID); !errors.Is(err, subscriptions.ErrDisabled) {
		t.Errorf("pause a disabled one: %v", err)
	}
	if _, err := b.store.Resume(ctx, "acme", made.ID); !errors.Is(err, subscriptions.ErrDisabled) {
		t.Errorf("resume a disabled one: %v", err)
	}
	must(b.store.Enable(ctx, "acme", made.ID))
	is("enable", subscriptions.Active, "")
	disable(uuid.Must(uuid.NewV7()), 1, "gone", false)
}

func TestDialectsMayLeaveOutWhatTheyDoNotHave(t *testing.T) {
	t.Parallel()
	b := setup(t)
	made := b.create(t, &subscriptions.Subscription{
		Tenant: "acme", Dialect: subscriptions.Passona, URL: "https://example.com/", Retry: subscriptions.Retry{MaxRetries: new(0)},
		Scopes: []string{subscriptions.AllScopes},
	})
	if len(made.Secrets) != 0 || made.PayloadFormat != subscriptions.Passona {
		t.Errorf("got %+v", made)
	}
	read, err := b.store.GetByNumber(t.Context(), "acme", subscriptions.Passona, made.Number)
	if err != nil || read.ID != made.ID || read.Secrets != nil {
		t.Errorf("by number: got %+v, %v", read, err)
	}
	b.fresh(t)
	matched, _ := b.dir.Match(&event.Event{Tenant: "acme", Type: "a"})
	targeted, _ := b.dir.Match(&event.Event{Tenant: "acme", Type: "a", Targets: []uuid.UUID{made.ID, made.ID}})
	if len(matched) != 0 || len(targeted) != 1 {
		t.Errorf("matched %d, targeted %d", len(matched), len(targeted))
	}
	own := plain("acme", "x")
	own.Dialect, own.Secrets = subscriptions.Babelfor, []subscriptions.Secret{{Value: "any text"}}
	b.create(t, own)
	if read, err := b.store.Get(t.Context(), "acme", own.ID); err != nil || read.Secrets[0].Value != "any text" {
		t.Errorf("got %+v, %v", read, err)
	}
}

func TestCreateMany(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const n = 5_000 + 17 // a transaction makes 5,000
	made := example(t)
	count, err := b.store.CreateMany(t.Context(), func(yield func(*subscriptions.Subscription) bool) {
		more := yield(made)
		for i := 1; more && i < n; i++ {
			more = yield(plain("acme", "a"))
		}
	})
	if err != nil || count != n {
		t.Fatalf("got %d, %v", count, err)
	}
	b.fresh(t)
	if got := b.dir.Stats(); got.Subscriptions != n || got.Tenants != 1 || got.Revision != 2 {
		t.Errorf("got %+v", got)
	}
	read, err := b.store.Get(t.Context(), "acme", made.ID)
	if err != nil || read.Number == 0 {
		t.Fatalf("got %+v, %v", read, err)
	}
	made.Number = read.Number
	if !reflect.DeepEqual(read, made) {
		t.Errorf("got %+v\nwant %+v", read, made)
	}
	if _, err := b.store.CreateMany(t.Context(), slices.Values([]*subscriptions.Subscription{{Tenant: "acme"}})); err == nil {
		t.Error("an invalid one was taken")
	}
}

func TestInvalidIsToldFieldByField(t *testing.T) {
	t.Parallel()
	b := setup(t)
	err := b.store.Create(t.Context(), &subscriptions.Subscription{Tenant: "acme", URL: "ftp://x", EventTypes: []string{"a", "b..c"}, Filter: "1"})
	var bad *subscriptions.Invalid
	if !errors.As(err, &bad) {
		t.Fatalf("got %v", err)
	}
	var fields []string
	for _, f := range bad.Faults {
		fields = append(fields, f.Field)
	}
	if want := []string{"url", "event_types[1]", "filter"}; !slices.Equal(fields, want) {
		t.Errorf("got %v, want %v", fields, want)
	}
}

func TestUnavailableIsSaid(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.dir.Fresh(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who gave up: %v", err)
	}
}
