package group_test

import (
	"context"
	"strconv"
	"sync"
	"testing"

	"github.com/fanfarehq/fanfare/internal/group"
)

// BenchmarkDo measures what an item costs beside its commit, with so many callers at once.
func BenchmarkDo(b *testing.B) {
	for _, callers := range []int{1, 100} {
		b.Run(strconv.Itoa(callers), func(b *testing.B) {
			c := group.New(group.Limits{}, nil, func(context.Context, []*int) error { return nil })
			ctx, item := b.Context(), new(int)
			b.ReportAllocs()
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for range b.N / callers {
						if err := c.Do(ctx, item); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
