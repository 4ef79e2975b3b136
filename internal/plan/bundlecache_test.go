package plan

import (
	"errors"
	"io/fs"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestBundleCache_RemovesTheSignatureOfAnEarlierBundle(t *testing.T) {
	h := hosttest.New(t).Host()
	run := func(files map[string][]byte) {
		t.Helper()
		s := BundleCache{Dir: "/bundle", Files: files}.storeStep(h)
		_, err := step.Runner{Verb: "install", Now: time.Now}.Run(t.Context(), []step.Step{s})
		testkit.Must(t, err)
		if state, err := s.Check(t.Context()); err != nil || state != step.Done() {
			t.Errorf("%+v, %v", state, err)
		}
	}
	run(map[string][]byte{"index.json": []byte("1"), "vendor.pub": []byte("key")})
	run(map[string][]byte{"index.json": []byte("2"), "vendor.pub": nil})
	if have, err := h.ReadFile("/bundle/index.json"); err != nil || string(have) != "2" {
		t.Errorf("%s, %v", have, err)
	}
	if _, err := h.Lstat("/bundle/vendor.pub"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the key remains: %v", err)
	}
}
