package action

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/airgap/embed"
	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestOpenWithoutBundle_KeepsTheKeyAndDropsTheBundle(t *testing.T) {
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&pair.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := trust.ParsePublicKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	section := func(text string) *io.SectionReader {
		return io.NewSectionReader(strings.NewReader(text), 0, int64(len(text)))
	}
	written := func(s embed.Embedded) string {
		var b bytes.Buffer
		if err := embed.Write(&b, s); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	const plain = "the program"
	keyed := written(embed.Embedded{Program: section(plain), Key: key})
	for name, c := range map[string]struct{ file, want string }{
		"as it was built": {plain, plain},
		"with a key":      {keyed, keyed},
		"with both":       {written(embed.Embedded{Program: section(plain), Key: key, Bundle: section("a large bundle")}), keyed},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "exe")
			if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := openWithoutBundle(path)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || string(got) != c.want || r.Close() != nil {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	t.Run("damaged", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "exe")
		if err := os.WriteFile(path, []byte("x"+keyed), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openWithoutBundle(path); err == nil {
			t.Error("damaged embedded data is accepted")
		}
	})
}

func TestIsRunningProgram_FollowsLinks(t *testing.T) {
	self, err := os.Executable()
	testkit.Must(t, err)
	dir := t.TempDir()
	link, other := filepath.Join(dir, "link"), filepath.Join(dir, "other")
	testkit.Must(t, os.Symlink(self, link), os.WriteFile(other, []byte("another program"), 0o755))
	for path, want := range map[string]bool{self: true, link: true, other: false, filepath.Join(dir, "missing"): false} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			if got := isRunningProgram(path); got != want {
				t.Errorf("%v", got)
			}
		})
	}
}
