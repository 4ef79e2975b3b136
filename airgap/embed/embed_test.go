package embed_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/airgap/embed"
	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/testkit"
)

const program, bundle = "\x7fELF program", "a bundle"

// key is a public key that was created with openssl.
const key = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEG9/Wkzc6aHzrhkUZrguggxq4ZpCbuQVQxy050zvuCUTj3F2y/dPPZRxFiCsdyNnqAIYZu1bmiGJHrSuI+3H62A=="

func section(s string) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader([]byte(s)), 0, int64(len(s)))
}

func open(t testing.TB, file []byte) (embed.Embedded, error) {
	t.Helper()
	return embed.Open(bytes.NewReader(file), int64(len(file)))
}

// embedded returns the file that contains s.
func embedded(t testing.TB, s embed.Embedded) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := embed.Write(&buf, s); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// allParts returns an executable with an embedded key and bundle.
func allParts(t testing.TB) embed.Embedded {
	t.Helper()
	var k trust.PublicKey
	if err := k.UnmarshalText([]byte(key)); err != nil {
		t.Fatal(err)
	}
	return embed.Embedded{Program: section(program), Bundle: section(bundle), Key: k}
}

func text(t testing.TB, r *io.SectionReader) string {
	t.Helper()
	if r == nil {
		return ""
	}
	raw, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestOpen_ReturnsWhatWriteEmbedded(t *testing.T) {
	whole := allParts(t)
	for name, want := range map[string]embed.Embedded{
		"key and bundle": whole,
		"key":            {Program: whole.Program, Key: whole.Key},
		"bundle":         {Program: whole.Program, Bundle: whole.Bundle},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := open(t, embedded(t, want))
			if err != nil || text(t, got.Program) != program || text(t, got.Bundle) != text(t, want.Bundle) || !got.Key.Equal(want.Key) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	for name, plain := range map[string]string{"empty": "", "one byte": "x", "program": program, "zeros": string(make([]byte, 100))} {
		t.Run("nothing in "+name, func(t *testing.T) {
			got, err := open(t, []byte(plain))
			if err != nil || text(t, got.Program) != plain || got.Bundle != nil || !got.Key.IsZero() {
				t.Errorf("%q: %+v, %v", plain, got, err)
			}
		})
	}
}

func TestOpen_NeverReturnsOtherDataFromDamagedFile(t *testing.T) {
	file := embedded(t, allParts(t))
	for at := len(program) + len(bundle); at < len(file); at++ {
		for _, flip := range []byte{1, 0x80} {
			bad := bytes.Clone(file)
			bad[at] ^= flip
			got, err := open(t, bad)
			if err == nil && !got.Key.IsZero() && text(t, got.Bundle) != bundle {
				t.Errorf("byte %d: %+v", at, got)
			}
		}
	}
	if got, err := open(t, file[1:]); err == nil {
		t.Errorf("a file without its first byte is accepted: %+v", got)
	}
	if got, err := open(t, file[:len(file)-1]); err != nil || got.Bundle != nil {
		t.Errorf("a file without its last byte is not a plain program: %+v, %v", got, err)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(embedded(f, allParts(f)))
	f.Add(append(binary.BigEndian.AppendUint64([]byte("{}"), 2), "\x00plinth sealed v1\n"...))
	f.Fuzz(func(t *testing.T, file []byte) {
		if len(file) > testkit.MaxInput {
			t.Skip()
		}
		testkit.CheckBounds(t, func() {
			s, err := open(t, file)
			if err == nil && s.Program.Size() > int64(len(file)) {
				t.Error("the program is longer than the file")
			}
		})
	})
}

func TestOpen_BoundsRecord(t *testing.T) {
	for _, length := range []uint64{limit.Record + 1, 1 << 40, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
		file := append(make([]byte, 1<<20), binary.BigEndian.AppendUint64(nil, length)...)
		file = append(file, "\x00plinth sealed v1\n"...)
		if _, err := open(t, file); err == nil || !strings.Contains(err.Error(), "the record is too long") {
			t.Errorf("%d bytes: %v", length, err)
		}
	}
}
