// Package embed appends a vendor's public key and a bundle to an executable, and
// finds them again.
package embed

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/airgap/trust"
)

// The file consists of: program, bundle (may be empty), record in JSON, trailer.
// The trailer is the length of the record (8 bytes, big endian) and the magic.
// It is found from the end of the file, so the embedded data costs nothing when
// the program runs.
const (
	magic       = "\x00plinth sealed v1\n"
	trailerSize = 8 + len(magic)
)

// Embedded is an executable split into its program and the data embedded in it.
type Embedded struct {
	Program *io.SectionReader // the executable alone
	Bundle  *io.SectionReader // nil if there is none
	Key     trust.PublicKey   // zero if there is none
}

// record describes the parts of the file; sizes are in bytes.
type record struct {
	Program int64           `json:"program"`
	Bundle  int64           `json:"bundle,omitempty"`
	Key     trust.PublicKey `json:"key,omitzero"`
}

// Open returns the parts of a file of size bytes. A file without a trailer is a
// program without embedded data. It fails if the record does not match the file.
func Open(r io.ReaderAt, size int64) (Embedded, error) {
	plain := Embedded{Program: io.NewSectionReader(r, 0, size)}
	if size < int64(trailerSize) {
		return plain, nil
	}
	end := size - int64(trailerSize)
	trailer, err := readAt(r, end, trailerSize)
	if err != nil || !bytes.HasSuffix(trailer, []byte(magic)) {
		return plain, err
	}
	length := binary.BigEndian.Uint64(trailer)
	if length > limit.Record || int64(length) > end {
		return Embedded{}, errors.New("its embedded data is damaged: the record is too long")
	}
	raw, err := readAt(r, end-int64(length), int(length))
	if err != nil {
		return Embedded{}, err
	}
	var rec record
	if err := json.Unmarshal(raw, &rec); err != nil {
		return Embedded{}, fmt.Errorf("its embedded data is damaged: %w", err)
	}
	payload := end - int64(length)
	if rec.Program < 0 || rec.Bundle < 0 || rec.Program > payload || rec.Bundle != payload-rec.Program {
		return Embedded{}, fmt.Errorf("its embedded data is damaged: the record declares parts of %d and %d bytes, but the file has %d", rec.Program, rec.Bundle, payload)
	}
	s := Embedded{Program: io.NewSectionReader(r, 0, rec.Program), Key: rec.Key}
	if rec.Bundle > 0 {
		s.Bundle = io.NewSectionReader(r, rec.Program, rec.Bundle)
	}
	return s, nil
}

// readAt returns up to n bytes at off; it does not fail at the end of r.
func readAt(r io.ReaderAt, off int64, n int) ([]byte, error) {
	buf := make([]byte, n)
	if _, err := r.ReadAt(buf, off); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return buf, nil
}

// Write writes an executable that consists of the parts in s. It fails if the size
// of a part changes while it is read.
func Write(w io.Writer, s Embedded) error {
	rec := record{Program: s.Program.Size(), Key: s.Key}
	parts := []io.Reader{io.NewSectionReader(s.Program, 0, rec.Program)}
	if s.Bundle != nil {
		rec.Bundle = s.Bundle.Size()
		parts = append(parts, io.NewSectionReader(s.Bundle, 0, rec.Bundle))
	}
	raw, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	trailer := append(binary.BigEndian.AppendUint64(nil, uint64(len(raw))), magic...)
	parts = append(parts, bytes.NewReader(append(raw, trailer...)))
	n, err := io.CopyBuffer(w, io.MultiReader(parts...), make([]byte, 1<<20))
	if want := rec.Program + rec.Bundle + int64(len(raw)+len(trailer)); err == nil && n != want {
		err = fmt.Errorf("%d bytes were written instead of %d: a part changed while it was read", n, want)
	}
	return err
}
