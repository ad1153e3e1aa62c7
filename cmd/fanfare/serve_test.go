package main

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fanfarehq/fanfare/internal/api"
)

// However busy the processors are, a server that is told to stop does so without an error.
func TestServersStopWithoutAnError(t *testing.T) {
	t.Parallel()
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		var group errgroup.Group
		for range 50 {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			group.Go(func() error { return api.Serve(ctx, listener, &http.Server{}, time.Minute) })
		}
		cancel()
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}
