package main

import (
	"context"
	"net"
	"net/http"
	"testing"

	"golang.org/x/sync/errgroup"
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
			group.Go(func() error { return serve(ctx, listener, &http.Server{}) })
		}
		cancel()
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}
