package format

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap/limit"
)

// Program identifies an executable of Plinth, without a bundle in it. It is not part of the bundle that names it.
type Program struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"` // bytes
}

// maxPrograms is the maximum number of programs that a bundle names: with and without the vendor's key, before and after
// a change of the key.
const maxPrograms = 4

// ParsePrograms parses the value of AnnotationPrograms; "" is none.
func ParsePrograms(text string) (all []Program, err error) {
	if text == "" {
		return nil, nil
	}
	if err = limit.CheckJSON([]byte(text)); err == nil {
		err = json.Unmarshal([]byte(text), &all)
	}
	if err == nil && len(all) > maxPrograms {
		err = fmt.Errorf("it lists %d, the limit is %d", len(all), maxPrograms)
	}
	for _, p := range all {
		if err == nil {
			err = p.Digest.Validate()
		}
		if err == nil && (p.Digest.Algorithm() != digest.SHA256 || p.Size < 1 || p.Size > limit.Program) {
			err = fmt.Errorf("%s of %d bytes is not a program", p.Digest, p.Size)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", AnnotationPrograms, err)
	}
	return all, nil
}

// FormatPrograms returns the value of AnnotationPrograms.
func FormatPrograms(all []Program) (string, error) {
	text, err := json.Marshal(all)
	return string(text), err
}
