package bundle

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap/embed"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/action/source"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestNamedPrograms_ListsPlainAndKeyedExecutables(t *testing.T) {
	const content = "#!/bin/sh\n"
	_, file := keys(t)
	vendor, err := source.PublicKey(file)
	testkit.Must(t, err)
	section := func(text string) *io.SectionReader {
		return io.NewSectionReader(strings.NewReader(text), 0, int64(len(text)))
	}
	executable := func(key trust.PublicKey, bundle string) string {
		t.Helper()
		var buf bytes.Buffer
		e := embed.Embedded{Program: section(content), Key: key}
		if bundle != "" {
			e.Bundle = section(bundle)
		}
		testkit.Must(t, embed.Write(&buf, e))
		return buf.String()
	}
	program := func(content string) format.Program {
		return format.Program{Digest: digest.FromString(content), Size: int64(len(content))}
	}
	withKey, without := program(executable(vendor, "")), program(executable(trust.PublicKey{}, ""))
	for name, c := range map[string]struct {
		file string
		key  trust.PublicKey // of the bundle
		want []format.Program
	}{
		"a bundle that is not signed":         {content, trust.PublicKey{}, []format.Program{program(content), without}},
		"a signed one":                        {content, vendor, []format.Program{program(content), without, withKey}},
		"the executable has the vendor's key": {executable(vendor, ""), vendor, []format.Program{withKey, without}},
		"it has a bundle":                     {executable(vendor, "bundle"), vendor, []format.Program{withKey, without}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "plinth")
			testkit.Must(t, os.WriteFile(path, []byte(c.file), 0o600))
			if got, err := namedPrograms(t.Context(), path, "linux/amd64", c.key); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%v, %v; want %v", got, err, c.want)
			}
		})
	}
	t.Run("this executable is for another platform", func(t *testing.T) {
		if got, err := namedPrograms(t.Context(), "", "linux/s390x", vendor); err != nil || len(got) > 0 {
			t.Errorf("%v, %v", got, err)
		}
	})
	t.Run("the executable of the flag is", func(t *testing.T) {
		self, err := os.Executable()
		testkit.Must(t, err)
		if got, err := namedPrograms(t.Context(), self, "linux/s390x", vendor); problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), "linux/s390x") {
			t.Errorf("%v, %v", got, err)
		}
	})
}
