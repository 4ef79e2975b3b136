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
	run(map[string][]byte{"index.json": []byte("2"), "vendor.pub": nil, "blobs/sha256/a": []byte("a")})
	if have, err := h.ReadFile("/bundle/index.json"); err != nil || string(have) != "2" {
		t.Errorf("%s, %v", have, err)
	}
	if _, err := h.Lstat("/bundle/vendor.pub"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the key remains: %v", err)
	}
}

func TestBundleCache_RemovesTheDocumentsOfAnEarlierBundle(t *testing.T) {
	h := hosttest.New(t).Host()
	store := func(files map[string][]byte) {
		t.Helper()
		_, err := step.Runner{Verb: "upgrade", Now: time.Now}.Run(t.Context(), []step.Step{BundleCache{Dir: "/bundle", Files: files}.storeStep(h)})
		testkit.Must(t, err)
	}
	store(map[string][]byte{"index.json": []byte("1"), "blobs/sha256/a": []byte("a")})
	store(map[string][]byte{"index.json": []byte("2"), "blobs/sha256/b": []byte("b")})
	if _, err := h.Lstat("/bundle/blobs/sha256/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the document of the earlier bundle remains: %v", err)
	}
	if have, err := h.ReadFile("/bundle/blobs/sha256/b"); err != nil || string(have) != "b" {
		t.Errorf("%s, %v", have, err)
	}
}
