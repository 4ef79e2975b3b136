package bundle

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestPatch_ResultsInTheNewBundle(t *testing.T) {
	private, public := keys(t)
	source := layout(t, "")
	old := built(t, func(r *BuildRequest) { r.SignKey, r.Release, r.Source = private, 1, source })
	next := built(t, func(r *BuildRequest) { r.SignKey, r.Release, r.Source = private, 2, source })
	dir := t.TempDir()
	change, out := filepath.Join(dir, "change"), filepath.Join(dir, "merged")
	d, err := Diff(t.Context(), old, next, change)
	if err != nil || d.Size >= d.Full || d.Patches != 0 {
		t.Fatalf("%+v, %v", d, err)
	}
	sum, err := Inspect(t.Context(), change)
	if err != nil || sum.Base != d.Base || sum.Digest != d.Digest || sum.Missing == 0 {
		t.Errorf("%+v, %v", sum, err)
	}
	m, err := Patch(t.Context(), old, change, out, nil)
	if err != nil || m.Digest != d.Digest || m.Size != d.Full {
		t.Fatalf("%+v, %v", m, err)
	}
	merged, _ := os.ReadFile(out)
	if want, err := os.ReadFile(next); err != nil || !bytes.Equal(merged, want) {
		t.Error("the merged bundle differs from the new one")
	}
	if got, err := Verify(t.Context(), VerifyRequest{Path: out, Key: public, Now: time.Now()}); err != nil || got.Verified == "" || got.Release != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 2 {
		t.Errorf("files left: %v", left)
	}
}

func TestDiff_RefusesIncompleteBundles(t *testing.T) {
	source := layout(t, "")
	old, thin := built(t, func(r *BuildRequest) { r.Source = source }), built(t, func(r *BuildRequest) { r.Source, r.Thin = source, true })
	next := built(t, func(r *BuildRequest) { r.Source, r.Release = source, 2 })
	change := filepath.Join(t.TempDir(), "change")
	if _, err := Diff(t.Context(), old, next, change); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		do   func(out string) error
		want string
	}{
		"diff of a thin bundle":  {func(out string) error { _, err := Diff(t.Context(), thin, next, out); return err }, "it is thin"},
		"diff of a delta":        {func(out string) error { _, err := Diff(t.Context(), old, change, out); return err }, "or a delta"},
		"diff of no bundle":      {func(out string) error { _, err := Diff(t.Context(), documented, next, out); return err }, "not a bundle"},
		"merge onto another":     {func(out string) error { _, err := Patch(t.Context(), next, change, out, nil); return err }, "was created from the bundle"},
		"merge of a full bundle": {func(out string) error { _, err := Patch(t.Context(), old, next, out, nil); return err }, "is not a delta"},
		"merge onto a thin one":  {func(out string) error { _, err := Patch(t.Context(), thin, change, out, nil); return err }, "it is thin"},
		"seal of a delta": {func(out string) error {
			_, err := Embed(t.Context(), EmbedRequest{Bundle: change, AllowUnsigned: true, Out: out})
			return err
		}, "it is a delta"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			err := c.do(filepath.Join(dir, "out"))
			if problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" || !strings.Contains(err.Error(), c.want) {
				t.Errorf("exit %d: %v", problem.ExitCode(err), err)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("files left: %v", left)
			}
		})
	}
}

func TestDiff_LeavesNoFilesOnFullDisk(t *testing.T) {
	source := layout(t, "")
	old, next := built(t, func(r *BuildRequest) { r.Source = source }), built(t, func(r *BuildRequest) { r.Source, r.Release = source, 2 })
	change := filepath.Join(t.TempDir(), "change")
	if _, err := Diff(t.Context(), old, next, change); err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func(out string) error{
		"diff":  func(out string) error { _, err := Diff(t.Context(), old, next, out); return err },
		"merge": func(out string) error { _, err := Patch(t.Context(), old, change, out, nil); return err },
	} {
		t.Run(name, func(t *testing.T) {
			disk := testkit.SmallDisk(t, 4<<10)
			err := do(filepath.Join(disk, "out"))
			if problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" || !strings.Contains(fmt.Sprint(err), "no space left") {
				t.Errorf("exit %d: %v; %s", problem.ExitCode(err), err, problem.Hint(err))
			}
			if left, _ := os.ReadDir(disk); len(left) > 0 {
				t.Errorf("files left: %v", left)
			}
		})
	}
}

func TestReadAttestations_ReturnsSBOMAndProvenance(t *testing.T) {
	path := built(t, func(*BuildRequest) {})
	bill, err := ReadAttestations(t.Context(), path)
	if err != nil || bill.SBOM.Name != "my-app" {
		t.Fatalf("%+v, %v", bill.SBOM, err)
	}
	sum, err := Inspect(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	parts := 0
	for _, it := range sum.Items {
		if it.Kind == format.KindImage || it.Kind == format.KindHost {
			parts++
		}
	}
	if parts == 0 || len(bill.Provenance) != parts || len(bill.SBOM.Packages) < parts {
		t.Errorf("%d images and host files, %d statements, %d packages", parts, len(bill.Provenance), len(bill.SBOM.Packages))
	}
}
