package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/plinthdev/plinth/distro/builder"
	"github.com/plinthdev/plinth/distro/debian"
	"github.com/plinthdev/plinth/distro/oci"
	"github.com/plinthdev/plinth/internal/problem"
)

// Verify builds the payload (or the named parts) a second time, in the folder
// verify of the cache and with an empty Go build cache, and compares every digest
// with that of the first layout. Only the module cache is shared. A stopped run is
// resumed by the next one. A build that differs is kept in verify-differs for
// inspection. Verify returns a summary.
func (e *Engine) Verify(ctx context.Context, only []string) (string, error) {
	first, err := e.Run(ctx, only)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(e.Dir, "verify")
	again, err := New(ctx, e.Set.Dir, e.Set.Variant, dir)
	if err != nil {
		return "", err
	}
	again.Jobs, again.Out = e.Jobs, e.Out
	again.builder.Env = []string{"GOCACHE=" + filepath.Join(dir, "go-build")}
	start := time.Now()
	second, err := again.Run(ctx, only)
	if err != nil {
		return "", err
	}
	same, err := compareLayouts(first, second)
	if err != nil {
		kept := dir + "-differs"
		err = errors.Join(err, builder.RemoveAll(kept), os.Rename(dir, kept))
		return "", problem.New(problem.ExitStep, "verify the payload", err, "compare "+filepath.Join(e.Dir, "parts")+" with "+filepath.Join(kept, "parts"))
	}
	return fmt.Sprintf("verified in %s: %d host artifacts and images have the same digests", elapsed(start), same), builder.RemoveAll(dir)
}

// compareLayouts returns the number of artifacts in the layout second if all have
// the same digest in first. The error lists those that differ.
func compareLayouts(first, second string) (int, error) {
	a, err := readIndex(first)
	if err != nil {
		return 0, err
	}
	b, err := readIndex(second)
	if err != nil {
		return 0, err
	}
	digests := map[string]string{}
	for _, d := range a.Manifests {
		digests[artifactName(d)] = d.Digest.String()
	}
	var diffs []string
	for _, d := range b.Manifests {
		if name := artifactName(d); digests[name] != d.Digest.String() {
			diffs = append(diffs, fmt.Sprintf("%s: first %s, second %s", name, digests[name], d.Digest))
		}
	}
	if len(diffs) > 0 {
		return 0, fmt.Errorf("%d of %d differ:\n%s", len(diffs), len(b.Manifests), strings.Join(diffs, "\n"))
	}
	return len(b.Manifests), nil
}

func artifactName(d ocispec.Descriptor) string {
	if ref := d.Annotations[ocispec.AnnotationRefName]; ref != "" {
		return ref
	}
	return d.Annotations[ocispec.AnnotationTitle]
}

func readIndex(dir string) (ocispec.Index, error) {
	var ix ocispec.Index
	b, err := os.ReadFile(filepath.Join(dir, ocispec.ImageIndexFile))
	if err == nil {
		err = json.Unmarshal(b, &ix)
	}
	return ix, err
}

// Repin rewrites the lock file with the versions that Debian's mirrors have now and
// returns the changes, or "" if there are none.
func (e *Engine) Repin(ctx context.Context) (string, error) {
	mirror, err := e.OpenMirror(ctx)
	if err != nil {
		return "", err
	}
	now, err := debian.Repin(ctx, e.Lock, mirror.Sites)
	if err != nil {
		return "", err
	}
	diff := debian.Diff(e.Lock, now)
	if diff == "" {
		return "", nil
	}
	return strings.TrimSuffix(diff, "\n"), oci.ReplaceFile(filepath.Join(e.Set.Dir, debian.LockFile), now.Bytes())
}
