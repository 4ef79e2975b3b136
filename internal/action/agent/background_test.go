package agent

import (
	"context"
	"testing"
	"testing/synctest"
)

// A goroutine that still runs when the synctest bubble ends fails the test.
func TestRunBackground_WaitsForWatchesToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := 0
		watch := func(ctx context.Context) { <-ctx.Done(); ended++ }
		end := runBackground(t.Context(), watch, func(ctx context.Context) { <-ctx.Done() })
		synctest.Wait()
		if ended != 0 {
			t.Error("a watch ended by itself")
		}
		if end(); ended != 1 {
			t.Error("end returned before the watch")
		}
	})
}
