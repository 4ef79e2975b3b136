package source

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
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/problem"
)

// openRequested opens the bundle that req selects and, for a thin bundle or a
// delta, the source or base that supplies its missing content. It is a problem
// if content is missing and neither was given.
func openRequested(ctx context.Context, req Request) (d Bundle, err error) {
	if req.Source != "" {
		if d.remote, err = fetch.Dial(ctx, req.Source, fetch.Options{}); err != nil {
			return d, err
		}
	}
	if d.Path = req.Bundle; d.Path == "-" {
		d.Path = airgap.StandardInput
	}
	switch {
	case airgap.IsPipe(d.Path):
		d.Bundle, d.stream, err = airgap.OpenPipe(ctx, d.Path)
	case d.Path != "":
		d.Bundle, err = airgap.Open(ctx, d.Path)
	case d.remote != nil:
		d.Path, d.Bundle, err = openPublished(ctx, d.remote)
	default:
		d.Path, d.Bundle, err = openEmbedded(ctx)
	}
	if err != nil {
		return d, err
	}
	if req.Base != "" {
		if d.base, err = airgap.Open(ctx, req.Base); err != nil {
			return d, errors.Join(err, d.Bundle.Close())
		}
		err = delta.CheckBase(d.Bundle, d.base)
	}
	if n := len(d.Missing()); n > 0 && d.remote == nil && d.base == nil && d.stream == nil {
		what, hint := "thin", "name the URL that has them with --source URL, or use the full bundle"
		if d.Delta() != nil {
			what, hint = "a delta", "name the bundle that it was created from with --base FILE, or use the full bundle"
		}
		err = problem.New(problem.ExitBundle, "use bundle "+d.Path, fmt.Errorf("it is %s: %d of its parts are missing", what, n), hint)
	}
	if err != nil {
		err = errors.Join(err, d.Close())
	}
	return d, err
}

// openPublished opens the thin bundle in a published folder, and returns its URL with it.
func openPublished(ctx context.Context, remote *fetch.Remote) (string, *airgap.Bundle, error) {
	thin, err := remote.FetchThinBundle(ctx)
	if err != nil {
		return "", nil, err
	}
	b, err := airgap.OpenAt(ctx, bytes.NewReader(thin), int64(len(thin)), remote.String())
	return remote.String(), b, err
}

// FetchURLs returns the URLs that Fetch will download from, without credentials.
// A registry (oci) is not listed, because opening the bundle has already reached it.
func (b Bundle) FetchURLs() []string {
	if b.remote == nil {
		return nil
	}
	u, err := url.Parse(b.remote.String())
	if err != nil || u.Scheme == "oci" {
		return nil
	}
	u.User = nil
	return []string{u.String()}
}

// MissingAtSource queries the source once for all content that the bundle omits,
// and returns the parts that the source does not have. It is an error if the
// source cannot be queried.
func (b Bundle) MissingAtSource(ctx context.Context) ([]string, error) {
	if b.remote == nil {
		return nil, nil
	}
	return b.remote.ListUnavailable(ctx, b.Missing())
}

// Fetch downloads the parts of a thin bundle that the host lacks, as listed by
// the caller in lacking, to env.FetchFolder(), and returns the bundle together with
// them. For a delta, it rebuilds the parts there from the base. A bundle in a
// pipe is read to its end. For a full bundle in a file, there is nothing to do.
//
// An interrupted download resumes at the next call. If nothing was received, or
// the content at the source is wrong, Fetch leaves nothing behind.
func (b Bundle) Fetch(ctx context.Context, env *action.Env, lacking []ocispec.Descriptor, progress func(done, total int64)) (*airgap.Bundle, error) {
	if len(b.Missing()) == 0 {
		return b.Bundle, nil
	}
	folder, err := blob.CreateFolder(filepath.Join(env.FetchFolder(), b.Digest().Encoded()))
	if err != nil {
		err = problem.New(problem.ExitBundle, "store downloaded content", err, "free disk space in "+env.FetchFolder())
		return nil, errors.Join(err, DiscardFetched(env))
	}
	if b.base != nil {
		src, err := delta.Base{Old: b.base, Folder: folder, Progress: progress}.Apply(ctx, b.Bundle, lacking)
		if err != nil {
			return nil, errors.Join(err, DiscardFetched(env))
		}
		return b.WithBlobSource(src, lacking), nil
	}
	fetchBlobs, isPermanent := b.stream.SaveBlobs, airgap.IsPermanentStreamError
	if b.stream == nil {
		fetchBlobs, isPermanent = b.remote.FetchBlobs, fetch.IsPermanent
	}
	if err := fetchBlobs(ctx, folder, lacking, progress); err != nil {
		if isPermanent(err) && ctx.Err() == nil || folder.IsEmpty() { // nothing to resume from
			err = errors.Join(err, DiscardFetched(env))
		}
		return nil, err
	}
	return b.WithBlobSource(folder, lacking), nil
}

// DiscardFetched removes env.FetchFolder().
func DiscardFetched(env *action.Env) error {
	if _, err := env.Host.Lstat(env.FetchFolder()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return env.Host.RemoveAll(env.FetchFolder())
}
