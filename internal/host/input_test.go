package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
)

// The shell passes <(command) as /dev/fd/63. What it never writes must not keep a user from stopping.
func TestReadInput_ReadsAPipeOfTheShellUntilItIsStopped(t *testing.T) {
	for name, written := range map[string]bool{"a pipe with a writer that ends": true, "a pipe that stays empty": false} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _, _ = r.Close(), w.Close() }()
			ctx, cancel := context.WithCancel(t.Context())
			file, err := OpenInput(fmt.Sprintf("/dev/fd/%d", r.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = file.Close() }()
			if written {
				_, _ = io.WriteString(w, "hello")
				_ = w.Close()
			} else {
				cancel()
			}
			data, err := ReadInput(ctx, file, 100)
			if written && (err != nil || string(data) != "hello") || !written && !errors.Is(err, context.Canceled) {
				t.Errorf("%q, %v", data, err)
			}
			cancel()
		})
	}
}
