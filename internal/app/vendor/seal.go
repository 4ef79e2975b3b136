package vendor

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/sign"
	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/app/delivery"
	"github.com/plinthdev/plinth/internal/app/output"
	"github.com/plinthdev/plinth/internal/problem"
)

// SealRequest says what to seal onto this executable.
type SealRequest struct {
	Bundle        string // file; "" for none
	VerifyKey     string // file with the public key; "" for the one that is sealed on already, if any
	AllowUnsigned bool   // seal a bundle that the key does not prove
	Out           string // executable to write
	Now           time.Time
}

// SealResult describes the executable that was made.
type SealResult struct {
	Path        string `json:"path"`
	Size        int64  `json:"size"`                  // bytes
	Fingerprint string `json:"fingerprint,omitempty"` // of the key sealed on
	Bundle      string `json:"bundle,omitempty"`      // digest of the bundle sealed on
}

// Seal writes this executable with a key, a bundle or both behind it; what was
// sealed onto it before, but for the key, is left out. A bundle that the new
// executable would refuse to install is refused here.
func Seal(ctx context.Context, req SealRequest) (res SealResult, err error) {
	if err := output.File(req.Out, req.Bundle, req.VerifyKey, delivery.Program); err != nil {
		return res, err
	}
	key, err := delivery.Key(req.VerifyKey)
	if err != nil {
		return res, err
	}
	if key.IsZero() && req.Bundle == "" {
		return res, problem.New(problem.ExitUsage, "seal an executable", errors.New("there is nothing to seal onto it"), "name a public key with --verify-key, a bundle with --bundle, or both")
	}
	s, closer, err := delivery.Self()
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	s.Key, s.Bundle = key, nil
	res = SealResult{Path: req.Out, Fingerprint: key.Fingerprint()}
	if req.Bundle != "" {
		file, digest, err := sealable(ctx, req, key)
		if err != nil {
			return res, err
		}
		defer func() { _ = file.Close() }()
		if s.Bundle, err = whole(file); err != nil {
			return res, err
		}
		res.Bundle = digest
	}
	if err = output.Executable(ctx, req.Out, s); ctx.Err() != nil {
		return res, err
	}
	if err != nil {
		return res, problem.New(problem.ExitUsage, "write "+req.Out, err, "name a file in a folder that exists, that you may write to and that has room")
	}
	st, err := os.Stat(req.Out)
	if err == nil {
		res.Size = st.Size()
	}
	return res, err
}

// sealable opens the bundle's file after proving that the executable will take it.
func sealable(ctx context.Context, req SealRequest, key sign.Public) (*os.File, string, error) {
	b, err := airgap.Open(ctx, req.Bundle)
	if err != nil {
		return nil, "", err
	}
	if b.Delta() != nil {
		return nil, "", errors.Join(problem.New(problem.ExitBundle, "seal "+req.Bundle, errors.New("it is a delta"), "seal the bundle that `plinth bundle merge` makes of it"), b.Close())
	}
	digest := b.Digest().String()
	_, err = trust.Judge(req.Bundle, b, trust.Terms{Key: key, AllowUnsigned: req.AllowUnsigned, Now: req.Now})
	if err := errors.Join(err, b.Close()); err != nil {
		return nil, "", err
	}
	file, err := os.Open(req.Bundle)
	return file, digest, err
}

func whole(file *os.File) (*io.SectionReader, error) {
	st, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(file, 0, st.Size()), nil
}
