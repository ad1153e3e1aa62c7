package servertest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// post sends a body on a connection of its own, so that one that is cut off is nobody else's.
func post(t *testing.T, ctx context.Context, url, body string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Webhook-Id", "evt_1")
	transport := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	resp, err := transport.RoundTrip(req)
	if err == nil {
		t.Cleanup(func() { _ = resp.Body.Close() })
	}
	return resp, err
}

func TestReceiverRecordsWhatCame(t *testing.T) {
	t.Parallel()
	r := servertest.NewReceiver(t)
	body := "{\"a\" : 1}\n\x00"
	before := time.Now()
	resp, err := post(t, t.Context(), r.URL+"/hooks?x=1", body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("got %v, error %v", resp, err)
	}
	got := r.Wait(1)[0]
	if got.Method != http.MethodPost || got.Path != "/hooks?x=1" || got.Header.Get("webhook-id") != "evt_1" ||
		!bytes.Equal(got.Body, []byte(body)) || got.At.Before(before) || got.At.After(time.Now()) || got.Err != nil {
		t.Errorf("got %+v", got)
	}
}

func TestReceiverFollowsItsScript(t *testing.T) {
	t.Parallel()
	r := servertest.NewReceiver(t, servertest.Status(503), servertest.Reply(429, http.Header{"Retry-After": {"7"}}, "slow down"),
		servertest.By(func(req servertest.Request) servertest.Answer { return servertest.Status(200 + len(req.Body)) }))
	var got []string
	for range 4 {
		resp, err := post(t, t.Context(), r.URL, "abcd")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		got = append(got, fmt.Sprint(resp.StatusCode, resp.Header.Get("Retry-After"), string(text), err))
	}
	want := []string{"503<nil>", "4297slow down<nil>", "204<nil>", "204<nil>"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	r.Answer(servertest.Status(410))
	if resp, err := post(t, t.Context(), r.URL, ""); err != nil || resp.StatusCode != 410 {
		t.Errorf("after Answer: got %v, error %v", resp, err)
	}
}

func TestReceiverBreaksOff(t *testing.T) {
	t.Parallel()
	r := servertest.NewReceiver(t, servertest.Reset(), servertest.Truncate(200, 100, "half"), servertest.Hang())
	if _, err := post(t, t.Context(), r.URL, "x"); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
		t.Errorf("reset: got %v", err)
	}
	resp, err := post(t, t.Context(), r.URL, "x")
	if err != nil {
		t.Fatalf("truncate: %v", err)
	}
	if text, err := io.ReadAll(resp.Body); string(text) != "half" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("truncate: got %q and %v", text, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := post(t, ctx, r.URL, "x"); !errors.Is(err, context.Canceled) {
			t.Errorf("hang: got %v", err)
		}
	})
	r.Wait(3)
	cancel()
	wg.Wait()
}

func TestReceiverAnswersOnASignal(t *testing.T) {
	t.Parallel()
	open := make(chan struct{})
	r := servertest.NewReceiver(t, servertest.After(open, servertest.Delay(time.Millisecond, servertest.Status(201))))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if resp, err := post(t, t.Context(), r.URL, "x"); err != nil || resp.StatusCode != 201 {
				t.Errorf("got %v, error %v", resp, err)
			}
		})
	}
	if got := r.Wait(20); len(got) != 20 {
		t.Errorf("got %d requests", len(got))
	}
	close(open)
	wg.Wait()
}

// A hanging answer does not hold the test's end up.
func TestReceiverEndsWithItsTest(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	t.Run("hang", func(t *testing.T) {
		r := servertest.NewReceiver(t, servertest.Hang())
		wg.Go(func() {
			if resp, err := http.Post(r.URL, "text/plain", nil); err == nil {
				t.Errorf("got %v", resp)
			}
		})
		r.Wait(1)
	})
	wg.Wait()
}
