package bundle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/action/source"
	"github.com/plinthdev/plinth/internal/problem"
)

// EmbedRequest describes what to embed in this executable.
type EmbedRequest struct {
	Bundle        string // file; "" for none
	Program       string // plinth executable for the platform of Bundle; "" for this executable
	VerifyKey     string // file with the public key; "" for the one that is already embedded, if any
	AllowUnsigned bool   // embed a bundle that the key does not verify
	Out           string // executable to write
	Now           time.Time
}

// EmbedResult describes the written executable. Its JSON format is public.
type EmbedResult struct {
	Path        string `json:"path"`
	Size        int64  `json:"size"`                  // bytes
	Fingerprint string `json:"fingerprint,omitempty"` // of the embedded key
	Bundle      string `json:"bundle,omitempty"`      // digest of the embedded bundle
}

// Embed writes a copy of an executable with a key, a bundle or both appended. A bundle
// that is already embedded is left out; an embedded key is kept unless req names another
// one. Embed refuses a bundle that the new executable would refuse to install.
func Embed(ctx context.Context, req EmbedRequest) (res EmbedResult, err error) {
	if err := CheckOutputFile(req.Out, req.Bundle, req.VerifyKey, req.Program, source.ExecutablePath); err != nil {
		return res, err
	}
	key, err := source.PublicKey(req.VerifyKey)
	if err != nil {
		return res, err
	}
	if key.IsZero() && req.Bundle == "" {
		return res, problem.New(problem.ExitUsage, "embed into an executable", errors.New("there is nothing to embed"), "name a public key with --verify-key, a bundle with --bundle, or both")
	}
	s, closer, err := source.OpenExecutable(cmp.Or(req.Program, source.ExecutablePath))
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	s.Key, s.Bundle = key, nil
	res = EmbedResult{Path: req.Out, Fingerprint: key.Fingerprint()}
	if req.Bundle != "" {
		file, digest, err := openEmbeddable(ctx, req, key, s.Program)
		if err != nil {
			return res, err
		}
		defer func() { _ = file.Close() }()
		if s.Bundle, err = sectionReader(file); err != nil {
			return res, err
		}
		res.Bundle = digest
	}
	if err = WriteExecutable(ctx, req.Out, s); ctx.Err() != nil {
		return res, err
	}
	if err != nil {
		return res, problem.New(problem.ExitUsage, "write "+req.Out, err, "name a file in an existing writable folder with enough free space")
	}
	st, err := os.Stat(req.Out)
	if err == nil {
		res.Size = st.Size()
	}
	return res, err
}

// openEmbeddable opens the file of the bundle and returns its digest, after it has
// verified that the executable with this program will accept the bundle.
func openEmbeddable(ctx context.Context, req EmbedRequest, key trust.PublicKey, program io.ReaderAt) (*os.File, string, error) {
	b, err := airgap.Open(ctx, req.Bundle)
	if err != nil {
		return nil, "", err
	}
	if b.Delta() != nil {
		return nil, "", errors.Join(problem.New(problem.ExitBundle, "embed "+req.Bundle, errors.New("it is a delta"), "create a full bundle from it with `plinth bundle patch` and embed that"), b.Close())
	}
	digest := b.Digest().String()
	_, err = trust.Verify(req.Bundle, b, trust.Policy{Key: key, AllowUnsigned: req.AllowUnsigned, Now: req.Now})
	if err == nil {
		err = checkProgram("embed "+req.Bundle, program, b.Platform(), "name the executable for it with --program")
	}
	if err := errors.Join(err, b.Close()); err != nil {
		return nil, "", err
	}
	file, err := os.Open(req.Bundle)
	return file, digest, err
}

// checkProgram returns a usage problem if a program is not for the platform of a bundle.
func checkProgram(doing string, program io.ReaderAt, platform, hint string) error {
	found, err := source.ProgramPlatform(program)
	if err == nil && platform != "" && found != "" && found != platform {
		err = fmt.Errorf("the executable is for %s, the bundle for %s", found, platform)
	}
	if err != nil {
		return problem.New(problem.ExitUsage, doing, err, hint)
	}
	return nil
}

func sectionReader(file *os.File) (*io.SectionReader, error) {
	st, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(file, 0, st.Size()), nil
}
