package helm

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestLimited(t *testing.T) {
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	var kept [][]byte
	for name, tc := range map[string]struct {
		limits renderLimits
		f      func() (string, error)
		want   string // of the value, or in the error
		cause  error
	}{
		"a result": {defaultLimits, func() (string, error) { return "a", nil }, "a", nil},
		"an error": {defaultLimits, func() (string, error) { return "", errors.New("no way") }, "no way", nil},
		"a panic":  {defaultLimits, func() (string, error) { panic("index out of range") }, "makes its renderer fail: index out of range", nil},
		"no end":   {renderLimits{50 * time.Millisecond, 1e9}, func() (string, error) { <-stop; return "", nil }, "not rendered after 50ms", ErrTooExpensive},
		"much text": {renderLimits{time.Minute, 64e6}, func() (string, error) {
			kept = append(kept, make([]byte, 256<<20))
			<-stop
			return string(kept[0][:1]), nil
		}, "more than 64 MB of memory", ErrTooExpensive},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := limited(tc.limits, tc.f)
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, tc.want) || tc.cause != nil && !errors.Is(err, tc.cause) {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}
