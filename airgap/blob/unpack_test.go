package blob_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/internal/testkit"
)

// streamed compresses data without declaring its size, as builders of layers do.
func streamed(t testing.TB, data []byte, options ...zstd.EOption) memory {
	t.Helper()
	var buf bytes.Buffer
	w, err := zstd.NewWriter(&buf, options...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// noise returns n bytes that compress to about a third, like programs.
func noise(n int) []byte {
	random := rand.New(rand.NewPCG(7, 7))
	words := make([][]byte, 500)
	for i := range words {
		words[i] = make([]byte, 4+random.IntN(24))
		for j := range words[i] {
			words[i][j] = byte(random.Uint32())
		}
	}
	data := make([]byte, 0, n+32)
	for len(data) < n {
		data = append(data, words[random.IntN(len(words))]...)
	}
	return data[:n]
}

func TestVerify_ChecksDeclaredSize(t *testing.T) {
	plain := noise(3 << 20)
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3}, streamed(t, plain)...)
	for name, c := range map[string]struct {
		data      memory
		mediaType string
	}{
		"zstd":            {streamed(t, plain), ocispec.MediaTypeImageLayerZstd},
		"zstd unchecked":  {streamed(t, plain, zstd.WithEncoderCRC(false)), ocispec.MediaTypeImageLayerZstd},
		"zstd skippable":  {skippable, ocispec.MediaTypeImageLayerZstd},
		"zstd two frames": {append(streamed(t, plain[:1<<20]), streamed(t, plain[1<<20:])...), ocispec.MediaTypeImageLayerZstd},
		"gzip":            {gz.Bytes(), ocispec.MediaTypeImageLayerGzip},
		"plain":           {plain, ocispec.MediaTypeImageLayer},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, desc, size := t.Context(), c.data.desc(c.mediaType), int64(len(plain))
			if err := new(blob.Verifier).Verify(ctx, c.data, desc, size); err != nil {
				t.Errorf("correct size: %v", err)
			}
			for _, declared := range []int64{0, 1, size / 4, size * 4} {
				if err := new(blob.Verifier).Verify(ctx, c.data, desc, declared); err == nil {
					t.Errorf("the declared size %d passed", declared)
				}
			}
			if err := new(blob.Verifier).Verify(ctx, c.data[:len(c.data)-1], desc, size); err == nil || !strings.Contains(err.Error(), "ends after") {
				t.Errorf("truncated: %v", err)
			}
			got, n, err := blob.Measure(ctx, c.data, desc)
			if err != nil || n != size || got != digest.FromBytes(plain) {
				t.Errorf("Measure() = %s, %d, %v", got, n, err)
			}
		})
	}
}

func TestVerify_RefusesUncompressedData(t *testing.T) {
	for _, mediaType := range []string{ocispec.MediaTypeImageLayerZstd, ocispec.MediaTypeImageLayerGzip} {
		t.Run(blob.Compression(mediaType), func(t *testing.T) {
			data := memory("this is not a compressed text")
			if err := new(blob.Verifier).Verify(t.Context(), data, data.desc(mediaType), 29); err == nil {
				t.Error("Verify passed")
			}
			if _, _, err := blob.Measure(t.Context(), data, data.desc(mediaType)); err == nil {
				t.Error("Measure passed")
			}
		})
	}
}

// FuzzVerify checks that a declared size that passes is at least half of the real
// unpacked size.
func FuzzVerify(f *testing.F) {
	f.Add([]byte(streamed(f, noise(1<<10))), int64(1<<10))
	f.Add([]byte(streamed(f, make([]byte, 1<<20))), int64(1<<20))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0, 3, 0, 0}, int64(0))
	f.Add([]byte{0x50, 0x2a, 0x4d, 0x18, 255, 255, 255, 255}, int64(0))
	f.Fuzz(func(t *testing.T, data []byte, declared int64) {
		if len(data) > testkit.MaxInput {
			t.Skip()
		}
		src, desc := memory(data), memory(data).desc(ocispec.MediaTypeImageLayerZstd)
		var err error
		testkit.CheckBounds(t, func() { err = new(blob.Verifier).Verify(t.Context(), src, desc, declared) })
		if declared < 0 || err != nil {
			return
		}
		plain, err := blob.Unpack(bytes.NewReader(data), desc.MediaType)
		if err != nil {
			return
		}
		defer func() { _ = plain.Close() }()
		// Damaged streams may pass because their digest is correct. They must not unpack to too much, either.
		if n, _ := io.Copy(io.Discard, io.LimitReader(plain, min(2*declared+2, 1<<24))); n/2 > declared {
			t.Errorf("the declared size %d passed, the blob unpacks to %d bytes", declared, n)
		}
	})
}

func TestUnpack_ReturnsNilWithError(t *testing.T) {
	if r, err := blob.Unpack(strings.NewReader("not gzip"), ocispec.MediaTypeImageLayerGzip); err == nil || r != nil {
		t.Errorf("%#v, %v", r, err)
	}
}
