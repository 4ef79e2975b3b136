package bundle

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"debug/elf"
	"encoding/binary"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/embed"
	"github.com/plinthdev/plinth/internal/problem"
)

// keys creates a key pair and returns the files of both keys.
func keys(t *testing.T) (private, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))),
		write(t, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})))
}

// built builds a bundle and returns its path.
func built(t *testing.T, change func(*BuildRequest)) string {
	t.Helper()
	req := BuildRequest{Installer: documentedCopy(t), Source: layout(t, ""), Out: filepath.Join(t.TempDir(), "b")}
	change(&req)
	if _, err := Build(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	return req.Out
}

func TestVerify_RequiresSignatureIfKeyIsKnown(t *testing.T) {
	private, public := keys(t)
	_, other := keys(t)
	signed := built(t, func(r *BuildRequest) { r.SignKey, r.Release, r.Expires = private, 7, "2030-01-31" })
	unsigned := built(t, func(*BuildRequest) {})
	before, after := time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2030, 2, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		req  VerifyRequest
		want string // in the error; "" if valid
	}{
		"signed":           {VerifyRequest{Path: signed, Key: public, Now: before}, ""},
		"without a key":    {VerifyRequest{Path: signed, Now: before}, ""},
		"unsigned":         {VerifyRequest{Path: unsigned, Key: public, Now: before}, "not signed"},
		"unsigned, no key": {VerifyRequest{Path: unsigned, Now: before}, ""},
		"another key":      {VerifyRequest{Path: signed, Key: other, Now: before}, "not signed with the key"},
		"expired":          {VerifyRequest{Path: signed, Key: public, Now: after}, "it expired at 2030-01-31"},
	} {
		t.Run(name, func(t *testing.T) {
			sum, err := Verify(t.Context(), c.req)
			switch {
			case c.want == "":
				if err != nil || (sum.Verified != "") != (c.req.Key != "") || sum.Signed != (c.req.Path == signed) || sum.Signed && sum.Release != 7 {
					t.Errorf("%+v, %v", sum, err)
				}
			case err == nil || problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(err.Error(), c.want):
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestEmbed_RefusesBundleThatInstallWouldRefuse(t *testing.T) {
	private, public := keys(t)
	_, other := keys(t)
	signed, unsigned := built(t, func(r *BuildRequest) { r.SignKey = private }), built(t, func(*BuildRequest) {})
	for name, c := range map[string]struct {
		req  EmbedRequest
		want string // in the error; "" if embedded
		code int
	}{
		"key":                  {EmbedRequest{VerifyKey: public}, "", 0},
		"key and bundle":       {EmbedRequest{VerifyKey: public, Bundle: signed}, "", 0},
		"nothing":              {EmbedRequest{}, "nothing to embed", problem.ExitUsage},
		"bundle without key":   {EmbedRequest{Bundle: signed}, "no key is known", problem.ExitBundle},
		"bundle of another":    {EmbedRequest{VerifyKey: other, Bundle: signed}, "not signed with", problem.ExitBundle},
		"unsigned":             {EmbedRequest{VerifyKey: public, Bundle: unsigned}, "not signed", problem.ExitBundle},
		"unsigned, on request": {EmbedRequest{Bundle: unsigned, AllowUnsigned: true}, "", 0},
		"no bundle":            {EmbedRequest{VerifyKey: public, Bundle: public}, "not a bundle", problem.ExitBundle},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.req.Out, c.req.Now = filepath.Join(dir, "my-app"), time.Now()
			res, err := Embed(t.Context(), c.req)
			if c.want != "" {
				left, _ := os.ReadDir(dir)
				if err == nil || problem.ExitCode(err) != c.code || !strings.Contains(err.Error(), c.want) || len(left) > 0 {
					t.Errorf("%v, want %q; left %v", err, c.want, left)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkExecutable(t, c.req, res)
		})
	}
}

// emptyProgram returns a file with an ELF header for a machine, and nothing else.
func emptyProgram(t *testing.T, machine elf.Machine) string {
	t.Helper()
	header := elf.Header64{Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Ehsize: 64}
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, header); err != nil {
		t.Fatal(err)
	}
	return write(t, b.String())
}

func TestEmbed_RefusesProgramOfAnotherPlatform(t *testing.T) {
	private, public := keys(t)
	signed := built(t, func(r *BuildRequest) { r.SignKey = private }) // for linux/amd64
	for name, c := range map[string]struct{ program, bundle, want string }{
		"same platform":       {emptyProgram(t, elf.EM_X86_64), signed, ""},
		"other platform":      {emptyProgram(t, elf.EM_AARCH64), signed, "the executable is for linux/arm64, the bundle for linux/amd64"},
		"without a bundle":    {emptyProgram(t, elf.EM_AARCH64), "", ""},
		"unknown platform":    {emptyProgram(t, elf.EM_RISCV), signed, "it is for another processor: EM_RISCV"},
		"script":              {write(t, "#!/bin/sh\n"), signed, ""},
		"not a program":       {write(t, "text"), signed, "it is not a program for Linux"},
		"shorter than a line": {write(t, ""), signed, "it is not a program for Linux"},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "my-app")
			_, err := Embed(t.Context(), EmbedRequest{Program: c.program, Bundle: c.bundle, VerifyKey: public, Out: out, Now: time.Now()})
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), c.want) || !strings.Contains(problem.Hint(err), "--program") {
				t.Errorf("%v, hint %q, want %q", err, problem.Hint(err), c.want)
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("the executable was written")
			}
		})
	}
}

// checkExecutable compares a written executable with the request and the result.
func checkExecutable(t *testing.T, req EmbedRequest, res EmbedResult) {
	t.Helper()
	file, err := os.Open(req.Out)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	st, err := file.Stat()
	if err != nil || st.Mode().Perm() != 0o755 || st.Size() != res.Size {
		t.Errorf("%v, %v", st, err)
	}
	s, err := embed.Open(file, st.Size())
	if err != nil || s.Key.Fingerprint() != res.Fingerprint || (s.Bundle == nil) != (req.Bundle == "") {
		t.Fatalf("%+v, %v", s, err)
	}
	if s.Bundle == nil {
		return
	}
	b, err := airgap.OpenAt(t.Context(), s.Bundle, s.Bundle.Size(), req.Out)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Verify(t.Context(), nil); err != nil || b.Digest().String() != res.Bundle {
		t.Errorf("%v, %s is not %s", err, b.Digest(), res.Bundle)
	}
}
