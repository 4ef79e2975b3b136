package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/delta"
	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/airgap/stream"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/problem"
)

// open finds the bundle and, for a thin one or a delta, where its content is.
func open(ctx context.Context, req Request) (d Delivery, err error) {
	if req.Source != "" {
		if d.remote, err = fetch.Dial(ctx, req.Source, fetch.Options{}); err != nil {
			return d, err
		}
	}
	if d.Path = req.Bundle; d.Path == "-" {
		d.Path = stream.StandardInput
	}
	switch {
	case stream.IsPipe(d.Path):
		d.Bundle, d.stream, err = stream.OpenPipe(ctx, d.Path)
	case d.Path != "":
		d.Bundle, err = airgap.Open(ctx, d.Path)
	case d.remote != nil:
		d.Path, d.Bundle, err = published(ctx, d.remote)
	default:
		d.Path, d.Bundle, err = sealed(ctx)
	}
	if err != nil {
		return d, err
	}
	if req.Base != "" {
		if d.base, err = airgap.Open(ctx, req.Base); err != nil {
			return d, errors.Join(err, d.Bundle.Close())
		}
		err = delta.Check(d.Bundle, d.base)
	}
	if n := len(d.Absent()); n > 0 && d.remote == nil && d.base == nil && d.stream == nil {
		what, hint := "thin", "name where they are with --source URL, or use the full bundle"
		if d.Delta() != nil {
			what, hint = "a delta", "name the bundle that it was made from with --base FILE, or use the full bundle"
		}
		err = problem.New(problem.ExitBundle, "use bundle "+d.Path, fmt.Errorf("it is %s: %d of its parts are not in it", what, n), hint)
	}
	if err != nil {
		err = errors.Join(err, d.Close())
	}
	return d, err
}

// published opens the thin bundle of a released folder.
func published(ctx context.Context, remote *fetch.Remote) (string, *airgap.Bundle, error) {
	thin, err := remote.Thin(ctx)
	if err != nil {
		return "", nil, err
	}
	b, err := airgap.OpenAt(ctx, bytes.NewReader(thin), int64(len(thin)), remote.String())
	return remote.String(), b, err
}

// Sources are the places that are still to be fetched from, by URLs without
// credentials; a registry has been asked already.
func (d Delivery) Sources() []string {
	if d.remote == nil {
		return nil
	}
	u, err := url.Parse(d.remote.String())
	if err != nil || u.Scheme == "oci" {
		return nil
	}
	u.User = nil
	return []string{u.String()}
}

// Lacking asks the source, once, for all that the bundle leaves out, and says
// what an install would not find there. It is an error that the source cannot be asked.
func (d Delivery) Lacking(ctx context.Context) ([]string, error) {
	if d.remote == nil {
		return nil, nil
	}
	return d.remote.Lacking(ctx, d.Absent())
}

// Fetch brings those parts of a thin bundle that the host lacks, by the caller's
// word, into run.FetchDir, and gives the bundle with them; of a delta they are
// made there. What is cut goes on where it was when this is called again; where
// nothing came, or what the source has is wrong, nothing is left. For a full
// bundle in a file there is nothing to do; one in a pipe is read to its end here.
func (d Delivery) Fetch(ctx context.Context, r *run.Run, lacking []ocispec.Descriptor, progress func(done, total int64)) (*airgap.Bundle, error) {
	if len(d.Absent()) == 0 {
		return d.Bundle, nil
	}
	folder, err := blob.CreateFolder(filepath.Join(run.FetchDir, d.Digest().Encoded()))
	if err != nil {
		err = problem.New(problem.ExitBundle, "keep what is fetched", err, "make room in "+run.FetchDir)
		return nil, errors.Join(err, Discard(r))
	}
	if d.base != nil {
		src, err := delta.Base{Old: d.base, Folder: folder, Progress: progress}.Apply(ctx, d.Bundle, lacking)
		if err != nil {
			return nil, errors.Join(err, Discard(r))
		}
		return d.With(src, lacking), nil
	}
	bring, hopeless := d.stream.Blobs, stream.Hopeless
	if d.stream == nil {
		bring, hopeless = d.remote.Blobs, fetch.Hopeless
	}
	if err := bring(ctx, folder, lacking, progress); err != nil {
		if hopeless(err) && ctx.Err() == nil || folder.Empty() { // nothing to go on with
			err = errors.Join(err, Discard(r))
		}
		return nil, err
	}
	return d.With(folder, lacking), nil
}

// Discard removes what was fetched.
func Discard(r *run.Run) error {
	if _, err := r.Host.Lstat(run.FetchDir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return r.Host.RemoveAll(run.FetchDir)
}
