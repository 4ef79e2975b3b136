package delta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/internal/problem"
)

// Check refuses, as a bad bundle, what is no delta, or not one to old.
func Check(delta, old *airgap.Bundle) error {
	d := delta.Delta()
	switch {
	case d == nil:
		return refuse(errors.New("the newer bundle is no delta: it needs no older one"), "name a delta that `plinth bundle diff` made; to install a whole bundle, leave --base out")
	case d.Base != old.Digest():
		return refuse(fmt.Errorf("the delta was made from the bundle %s, and this one is %s", d.Base, old.Digest()), "name the bundle that the delta was made from")
	case len(old.Absent()) > 0:
		return refuse(fmt.Errorf("it does not hold %d of its own parts", len(old.Absent())), "name the full bundle that the delta was made from")
	}
	return nil
}

// Base is what a delta is applied to.
type Base struct {
	Old      *airgap.Bundle          // what the delta was made from (Check)
	Folder   blob.Folder             // for what is made
	Progress func(done, total int64) // bytes; may be nil
}

// Apply makes those of a delta's absent blobs that are wanted and that the older
// bundle has not as they are, proved, in the folder. It gives a source of all
// wanted blobs, as long as the older bundle is open. Blobs that the folder has
// already are not made again.
func (b Base) Apply(ctx context.Context, delta *airgap.Bundle, wanted []ocispec.Descriptor) (blob.Source, error) {
	patches := map[digest.Digest]format.Patch{}
	for _, p := range delta.Delta().Patches {
		patches[p.Blob] = p
	}
	total := int64(0)
	for _, desc := range wanted {
		total += desc.Size
	}
	meter := blob.NewMeter(total, b.Progress)
	a := applier{delta, b.Old, workdir(b.Folder.Dir())}
	for _, desc := range wanted {
		if _, err := b.Old.Section(desc); err != nil {
			p, ok := patches[desc.Digest]
			if !ok {
				return nil, refuse(fmt.Errorf("blob %s is neither in the delta nor in the older bundle", desc.Digest), "get the full bundle")
			}
			err := b.Folder.Put(ctx, plain(desc), func() (io.ReadCloser, error) { return a.rebuild(ctx, p) })
			if err != nil {
				return nil, b.failed(ctx, err)
			}
		}
		meter.Add(int(desc.Size))
	}
	meter.Finish()
	return both{b.Folder, b.Old}, nil
}

// both is what was made and what was there.
type both struct {
	folder blob.Folder
	old    *airgap.Bundle
}

func (b both) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if b.folder.Has(desc) {
		return b.folder.Open(ctx, desc)
	}
	return b.old.Open(ctx, desc)
}

type applier struct {
	delta, old *airgap.Bundle
	work       workdir
}

// rebuild streams a blob that is made from one of the older bundle. Nothing of
// it is proved, and yet it ends: no more is unpacked than the two indices say.
func (a applier) rebuild(ctx context.Context, p format.Patch) (io.ReadCloser, error) {
	if p.Packed != format.PackedBetter {
		return nil, fmt.Errorf("blob %s is compressed as %q, which this version of plinth cannot do", p.Blob, p.Packed)
	}
	to, _ := a.delta.Layer(p.Blob)
	from, ok := a.old.Layer(p.From.Digest)
	if !ok || !fits(from, to) {
		return nil, fmt.Errorf("blob %s is to be made from %s, which is not one of the older bundle that fits", p.Blob, p.From.Digest)
	}
	before, err := a.work.unpack(ctx, a.old, from)
	if err != nil {
		return nil, err
	}
	patch, err := a.delta.Open(ctx, p.Patch)
	if err != nil {
		before.close()
		return nil, err
	}
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.CloseWithError(errors.Join(remake(w, patch, before, to.Unpacked), patch.Close()))
	}()
	return remade{r, func() { <-done; before.close() }}, nil
}

// remake writes the blob as it was compressed.
func remake(w io.Writer, patch io.Reader, before workfile, size int64) error {
	r, plain := io.Pipe()
	go func() { _ = plain.CloseWithError(decode(&limited{plain, size}, patch, before.section())) }()
	defer func() { _ = r.Close() }()
	return repack(w, r)
}

// remade ends, when it is closed, what makes it.
type remade struct {
	*io.PipeReader
	end func()
}

func (r remade) Close() error {
	err := r.PipeReader.Close()
	r.end()
	return err
}

// limited stops what grows beyond what is declared.
type limited struct {
	w    io.Writer
	left int64
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 {
		return 0, errors.New("patch: it makes more than is declared")
	}
	return l.w.Write(p)
}

func (b Base) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var file *fs.PathError
	if dir := b.Folder.Dir(); errors.As(err, &file) && strings.HasPrefix(file.Path, dir) {
		return problem.New(problem.ExitBundle, "keep what is made of the older bundle", file, "make room in "+dir+": unpacked parts stand there for a while")
	}
	var p *problem.Problem
	if errors.As(err, &p) {
		err = p.Err
	}
	return refuse(err, "the delta or the older bundle is damaged: copy them again from where they were published, or get the full bundle")
}

func refuse(cause error, hint string) error {
	return problem.New(problem.ExitBundle, "use the older bundle", cause, hint)
}
