package airgap

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/internal/testkit"
)

func TestOpenPipe_WaitsForTheSender(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	testkit.Must(t, unix.Mkfifo(pipe, 0o600))
	t.Run("which is late", func(t *testing.T) {
		time.AfterFunc(50*time.Millisecond, func() { _ = os.WriteFile(pipe, []byte("content"), 0o600) })
		file, err := openPipe(t.Context(), pipe)
		testkit.Must(t, err)
		defer func() { _ = file.Close() }()
		if got, err := io.ReadAll(file); string(got) != "content" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("until the command is interrupted", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := openPipe(ctx, pipe); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}
