package outcome_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	library "github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/cbor"
)

// goldenRecords holds one of everything. Its bytes are on disks and in streams: they change only with the version of
// the message, and records written by older versions must stay readable.
func goldenRecords() []outcome.Record {
	at := time.Date(2026, 11, 20, 10, 0, 0, 123456000, time.UTC)
	id := uuid.MustParse("01980000-0000-7000-8000-000000000001")
	return []outcome.Record{{
		Delivery: id, EventUID: id, EventID: "evt_17", EventType: "order.created", Tenant: "acme", Seq: 42, Subscription: id, Generation: 1,
		Step: 2, Outcome: outcome.Later, Reason: outcome.ReasonRetryAfter, Attempts: 1, CreatedAt: at, At: at.Add(time.Hour), Held: true, Test: true,
		Attempt: &outcome.Made{Number: 1, StartedAt: at, Micros: 1500, Status: 503, Error: "e", Response: []byte("oops"), Reason: outcome.ReasonServer, Revision: 7,
			Exchange: []byte{0x82, 0x46, 203, 0, 113, 7, 1, 0xbb, 0x19, 3, 0x84}, Headers: []byte(`{"Server":"x"}`)},
		Event: []byte{1, 2, 3},
	}, {Delivery: id, EventUID: id, Subscription: id, Step: 1, Outcome: outcome.Cancelled, Reason: outcome.ReasonDeleted, CreatedAt: at, At: at}}
}

func TestGoldenRecords(t *testing.T) {
	t.Parallel()
	const file = "testdata/attempts_v1_exchange.hex"
	var raw []byte
	for _, r := range goldenRecords() {
		raw = r.Append(raw)
	}
	want := readHex(t, file)
	if got := cbor.Wrap(len(goldenRecords()), raw); !bytes.Equal(got, want) {
		t.Errorf("%s: the wire format changed; got\n%x", file, got)
	}
	unpacked(t, want, goldenRecords())
	// Any tool can read it.
	var shown any
	if err := library.Unmarshal(want, &shown); err != nil {
		t.Error(err)
	}
}

// Records of earlier versions lack the fields that were appended since.
func TestGoldenRecordsOfEarlierVersions(t *testing.T) {
	t.Parallel()
	records := goldenRecords()
	records[0].Attempt.Exchange, records[0].Attempt.Headers = nil, nil
	unpacked(t, readHex(t, "testdata/attempts_v1_revision.hex"), records)
	records[0].Attempt.Revision = 0
	unpacked(t, readHex(t, "testdata/attempts_v1.hex"), records)
}

func readHex(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// unpacked wants a message to hold records.
func unpacked(t *testing.T, message []byte, want []outcome.Record) {
	t.Helper()
	records, err := outcome.Unpack(message)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range records {
		if !reflect.DeepEqual(*r, want[i]) {
			t.Errorf("record %d: got %+v, want %+v", i, *r, want[i])
		}
	}
}

// Fields that a later version appends to a record are skipped.
func TestRecordsOfALaterVersion(t *testing.T) {
	t.Parallel()
	r := goldenRecords()[1]
	raw := r.Append(nil)
	const fields = 17 // of version 1
	w := cbor.Writer{}
	w.Array(fields + 3)
	w.Buf = append(w.Buf, raw[1:]...)
	w.Array(2)
	w.Text("something")
	w.Int(-5)
	w.Null()
	w.Bytes([]byte("new"))
	got, err := outcome.Unpack(cbor.Wrap(2, w.Buf, raw))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range got {
		if !reflect.DeepEqual(*g, r) {
			t.Errorf("got %+v, want %+v", *g, r)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	for _, r := range goldenRecords() {
		f.Add(cbor.Wrap(1, r.Append(nil)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if records, err := outcome.Unpack(data); err == nil && len(records) == 0 {
			t.Error("no error and no records")
		}
	})
}
