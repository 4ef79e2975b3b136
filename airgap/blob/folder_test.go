package blob_test

import (
	"os"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
)

func TestIsEmpty_CountsPartialBlobs(t *testing.T) {
	f, err := blob.CreateFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	part := f.PartPath(ocispec.Descriptor{Digest: digest.FromString("some")})
	for _, c := range []struct {
		content string
		empty   bool
	}{{"", true}, {"so", false}} {
		if err := os.WriteFile(part, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := f.IsEmpty(); got != c.empty {
			t.Errorf("with the partial content %q: %v", c.content, got)
		}
	}
	if err := os.RemoveAll(f.Dir()); err != nil || f.IsEmpty() {
		t.Error("a missing folder is reported as empty")
	}
}
