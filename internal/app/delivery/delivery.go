// Package delivery owns how a bundle reaches a verb: from a file or from this
// executable's own seal, and whether it may be taken, by the keys that the
// user, the executable and the receipt name. It refuses to read what is in the
// bundle and to change the host.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/airgap/seal"
	"github.com/plinthdev/plinth/airgap/sign"
	"github.com/plinthdev/plinth/airgap/stream"
	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/problem"
)

// Program is the executable of this process, also after its file was replaced.
const Program = "/proc/self/exe"

// maxKey is the most that is read of a file with a key.
const maxKey = 64 << 10

// Request says which bundle is wanted and what is known of its vendor.
type Request struct {
	Bundle        string // file or pipe, "-" for standard input; "" for that of Source, or else the one sealed onto this executable
	Source        string // URL with the content of a thin bundle; "" for none
	Base          string // file with the older bundle that a delta was made from; "" for none
	VerifyKey     string // file with the vendor's public key; "" for the one sealed onto this executable
	KeyRotation   string // file with the statement that another key follows; "" for none
	AllowUnsigned bool   // take a bundle that no known key proves
	Look          bool   // likewise, since nothing of it will be put on the host
}

// Delivery is an open bundle that may be taken.
type Delivery struct {
	*airgap.Bundle
	Path  string // the file it is in
	Trust trust.Verdict

	remote *fetch.Remote  // nil for a bundle that is all there, and for a delta
	base   *airgap.Bundle // nil but for a delta
	stream *stream.Stream // nil but for a bundle in a pipe
}

// Close ends the use of the files.
func (d Delivery) Close() error {
	if d.base == nil {
		return d.Bundle.Close()
	}
	return errors.Join(d.Bundle.Close(), d.base.Close())
}

// Open opens the bundle and judges whose it is. What was taken on request only
// is told, and stands in the verdict for the receipt.
func Open(ctx context.Context, r *run.Run, req Request) (Delivery, error) {
	terms, err := terms(r, req)
	if err != nil {
		return Delivery{}, err
	}
	d, err := open(ctx, req)
	if err != nil {
		return Delivery{}, err
	}
	if d.Trust, err = trust.Judge(d.Path, d.Bundle, terms); err != nil {
		return Delivery{}, errors.Join(err, d.Close())
	}
	if err := fits(d.Path, d.Platform(), runtime.GOOS+"/"+runtime.GOARCH); err != nil {
		return Delivery{}, errors.Join(err, d.Close())
	}
	if d.Trust.Warning != "" {
		r.Note("warning: " + d.Trust.Warning)
	}
	return d, nil
}

// fits refuses a bundle for another kind of machine.
func fits(path, platform, here string) error {
	if platform == "" || platform == here {
		return nil
	}
	return problem.New(problem.ExitBundle, "use bundle "+path, fmt.Errorf("it is for %s, this program is for %s", platform, here), "get the vendor's bundle for this kind of machine")
}

// terms gathers what is known on this host.
func terms(r *run.Run, req Request) (t trust.Terms, err error) {
	t = trust.Terms{AllowUnsigned: req.AllowUnsigned, Look: req.Look, Now: r.Now()}
	if t.Key, err = Key(req.VerifyKey); err != nil {
		return t, err
	}
	if req.KeyRotation != "" {
		statement, err := parse(req.KeyRotation, sign.ParseRotation)
		if err != nil {
			return t, err
		}
		t.Rotation = &statement
	}
	receipt, _, err := journal.ReadReceipt(r.Host, r.DataDir)
	if err == nil {
		t.Pin, err = pin(receipt)
	}
	return t, err
}

// pin is what the receipt remembers of the vendor.
func pin(r journal.Receipt) (trust.Pin, error) {
	p := trust.Pin{Release: r.Vendor.Release, Bundle: digest.Digest(r.Bundle)}
	if err := p.Key.UnmarshalText([]byte(r.Vendor.Key)); err != nil {
		return p, problem.New(problem.ExitBundle, "read the vendor's key in the receipt", err, "reset the cluster and install it again")
	}
	return p, nil
}

// Vendor is what the receipt is to remember of a vendor.
func Vendor(v trust.Verdict) journal.Vendor {
	text, _ := v.Key.MarshalText() // never fails
	return journal.Vendor{Key: string(text), Fingerprint: v.Key.Fingerprint(), Release: v.Release}
}

// Key is the public key in a file, or, without one, the key sealed onto this
// executable; zero if there is none.
func Key(file string) (sign.Public, error) {
	if file != "" {
		return parse(file, sign.ParsePublic)
	}
	s, closer, err := Self()
	if err != nil {
		return sign.Public{}, err
	}
	return s.Key, closer.Close()
}

// Self takes this executable apart.
func Self() (seal.Sealed, io.Closer, error) { return Taken(Program) }

// Taken takes the executable at path apart.
func Taken(path string) (seal.Sealed, io.Closer, error) {
	file, err := os.Open(path)
	if err != nil {
		return seal.Sealed{}, nil, problem.New(problem.ExitUsage, "read the executable "+path, err, "name an executable of plinth")
	}
	st, err := file.Stat()
	var s seal.Sealed
	if err == nil {
		s, err = seal.Open(file, st.Size())
	}
	if err != nil {
		return s, nil, problem.New(problem.ExitBundle, "read what is sealed onto the executable "+path, errors.Join(err, file.Close()), "the copy is damaged: get the executable again")
	}
	return s, file, nil
}

// sealed opens the bundle on this executable.
func sealed(ctx context.Context) (string, *airgap.Bundle, error) {
	s, closer, err := Self()
	if err != nil {
		return "", nil, err
	}
	if s.Bundle == nil {
		return "", nil, errors.Join(problem.New(problem.ExitUsage, "install", errors.New("no bundle was given, and none is sealed onto this executable"),
			"name the bundle with --bundle FILE; a vendor makes it with `plinth bundle build`"), closer.Close())
	}
	name, err := os.Executable()
	if err != nil {
		name = "this executable"
	}
	b, err := airgap.OpenAt(ctx, s.Bundle, s.Bundle.Size(), name)
	if err != nil {
		return "", nil, errors.Join(err, closer.Close())
	}
	return name, b.Owning(closer), nil
}

// parse reads a small file that a user named.
func parse[T any](path string, as func([]byte) (T, error)) (value T, err error) {
	raw, err := run.Given(nil, path, maxKey)
	if err == nil {
		value, err = as(raw)
	}
	if err != nil {
		err = problem.New(problem.ExitUsage, "use the key file "+path, err, "name a file with an ECDSA key on P-256 in PEM, such as `openssl ecparam -name prime256v1 -genkey` makes")
	}
	return value, err
}

// PrivateKey reads a vendor's private key from a file, which may be a pipe.
func PrivateKey(path string) (sign.Private, error) { return parse(path, sign.ParsePrivate) }
