// Package source finds, opens, verifies and downloads the bundle that a command uses.
package source

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/embed"
	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/problem"
)

// ExecutablePath is the executable of this process, also after its file was replaced.
const ExecutablePath = "/proc/self/exe"

// maxKeySize is the maximum size of a key file in bytes.
const maxKeySize = 64 << 10

// Request selects a bundle and the key material that verifies it.
type Request struct {
	Bundle        string // file or pipe, "-" for standard input; "" for the bundle at Source, or else the embedded one
	Source        string // URL with the content of a thin bundle; "" for none
	Base          string // file with the older bundle that a delta was created from; "" for none
	VerifyKey     string // file with the vendor's public key; "" for the key embedded in this executable
	KeyRotation   string // file with the vendor's statement that a new key replaces the old one; "" for none
	AllowUnsigned bool   // accept a bundle that no known key verifies
	InspectOnly   bool   // accept it too, because the command installs nothing from it
	IgnoreReceipt bool   // the bundle is not for this host, whose receipt does not matter
}

// Bundle is an open bundle that passed the trust check, and where its missing
// content comes from.
type Bundle struct {
	*airgap.Bundle
	Path  string // file or URL
	Trust trust.Result

	remote *fetch.Remote  // nil unless Request.Source was given
	base   *airgap.Bundle // nil unless the bundle is a delta
	stream *airgap.Stream // nil unless the bundle comes from a pipe
}

// Close closes the files of the bundle and of its base.
func (b Bundle) Close() error {
	if b.base == nil {
		return b.Bundle.Close()
	}
	return errors.Join(b.Bundle.Close(), b.base.Close())
}

// Open opens the requested bundle and verifies its vendor and platform. If the
// bundle is accepted only because the user allowed it, Open notes a warning;
// Bundle.Trust holds it for the receipt.
func Open(ctx context.Context, env *action.Env, req Request) (Bundle, error) {
	policy, err := trustPolicy(env, req)
	if err != nil {
		return Bundle{}, err
	}
	d, err := openRequested(ctx, req)
	if err != nil {
		return Bundle{}, err
	}
	if d.Trust, err = trust.Verify(d.Path, d.Bundle, policy); err != nil {
		return Bundle{}, errors.Join(err, d.Close())
	}
	if err := checkPlatform(d.Path, d.Platform(), runtime.GOOS+"/"+runtime.GOARCH); err != nil {
		return Bundle{}, errors.Join(err, d.Close())
	}
	if d.Trust.Warning != "" {
		env.Note("warning: " + d.Trust.Warning)
	}
	return d, nil
}

// checkPlatform returns a problem if the bundle at path is for another platform
// than here; both are GOOS/GOARCH, and "" fits every host.
func checkPlatform(path, platform, here string) error {
	if platform == "" || platform == here {
		return nil
	}
	return problem.New(problem.ExitBundle, "use bundle "+path, fmt.Errorf("it is for %s, this program is for %s", platform, here), "get the vendor's bundle for "+here)
}

// trustPolicy returns the trust policy from the request, the embedded key and
// the receipt of this host.
func trustPolicy(env *action.Env, req Request) (t trust.Policy, err error) {
	t = trust.Policy{AllowUnsigned: req.AllowUnsigned, InspectOnly: req.InspectOnly, Now: env.Now()}
	if t.Key, err = PublicKey(req.VerifyKey); err != nil {
		return t, err
	}
	if req.KeyRotation != "" {
		statement, err := parseKeyFile(req.KeyRotation, trust.ParseKeyRotation)
		if err != nil {
			return t, err
		}
		t.Rotation = &statement
	}
	if req.IgnoreReceipt {
		return t, nil
	}
	receipt, _, err := journal.ReadReceipt(env.Host, env.DataDir)
	if err == nil {
		t.Pin, err = PinnedVendor(receipt)
	}
	return t, err
}

// PinnedVendor returns the vendor's key and the release that the receipt records.
func PinnedVendor(r journal.Receipt) (trust.Pin, error) {
	p := trust.Pin{Release: r.Vendor.Release, Bundle: digest.Digest(r.Bundle)}
	if err := p.Key.UnmarshalText([]byte(r.Vendor.Key)); err != nil {
		return p, problem.New(problem.ExitBundle, "read the vendor's key in the receipt", err, "reset the cluster and install it again: plinth reset cluster")
	}
	return p, nil
}

// VendorRecord returns what the receipt records of a bundle's vendor.
func VendorRecord(v trust.Result) journal.Vendor {
	text, _ := v.Key.MarshalText() // never fails
	return journal.Vendor{Key: string(text), Fingerprint: v.Key.Fingerprint(), Release: v.Release}
}

// PublicKey returns the public key in file. If file is "", it returns the key
// embedded in this executable, or the zero key if there is none.
func PublicKey(file string) (trust.PublicKey, error) {
	if file != "" {
		return parseKeyFile(file, trust.ParsePublicKey)
	}
	s, closer, err := OpenSelf()
	if err != nil {
		return trust.PublicKey{}, err
	}
	return s.Key, closer.Close()
}

// OpenSelf returns the parts of this executable. The caller closes the closer.
func OpenSelf() (embed.Embedded, io.Closer, error) { return OpenExecutable(ExecutablePath) }

// OpenExecutable returns the parts of the executable at path: the program, and
// the key and bundle that are embedded in it. The caller closes the closer.
func OpenExecutable(path string) (embed.Embedded, io.Closer, error) {
	file, err := os.Open(path)
	if err != nil {
		return embed.Embedded{}, nil, problem.New(problem.ExitUsage, "read the executable "+path, err, "name a plinth executable")
	}
	st, err := file.Stat()
	var s embed.Embedded
	if err == nil {
		s, err = embed.Open(file, st.Size())
	}
	if err != nil {
		return s, nil, problem.New(problem.ExitBundle, "read the key and bundle embedded in the executable "+path, errors.Join(err, file.Close()), "the file is damaged: download the executable again")
	}
	return s, file, nil
}

// ProgramPlatform returns the platform of a program, such as linux/arm64, by the header of its ELF
// file, and "" for a script, which runs on every platform. The error is for what no host with Linux of a
// known platform runs.
func ProgramPlatform(program io.ReaderAt) (string, error) {
	start := make([]byte, 2)
	if _, err := program.ReadAt(start, 0); err == nil && string(start) == "#!" {
		return "", nil
	}
	f, err := elf.NewFile(program)
	if err != nil {
		return "", errors.New("it is not a program for Linux")
	}
	switch f.Machine {
	case elf.EM_X86_64:
		return "linux/amd64", nil
	case elf.EM_AARCH64:
		return "linux/arm64", nil
	}
	return "", fmt.Errorf("it is for another processor: %s", f.Machine)
}

// openEmbedded opens the bundle that is embedded in this executable, and returns
// the executable's name with it.
func openEmbedded(ctx context.Context) (string, *airgap.Bundle, error) {
	s, closer, err := OpenSelf()
	if err != nil {
		return "", nil, err
	}
	if s.Bundle == nil {
		return "", nil, errors.Join(problem.New(problem.ExitUsage, "install", errors.New("no bundle was given, and none is embedded in this executable"),
			"name the bundle with --bundle FILE; a vendor creates it with `plinth bundle build`"), closer.Close())
	}
	name, err := os.Executable()
	if err != nil {
		name = "this executable"
	}
	b, err := airgap.OpenAt(ctx, s.Bundle, s.Bundle.Size(), name)
	if err != nil {
		return "", nil, errors.Join(err, closer.Close())
	}
	return name, b.WithCloser(closer), nil
}

// parseKeyFile reads the key file at path and parses it with as.
func parseKeyFile[T any](path string, as func([]byte) (T, error)) (value T, err error) {
	raw, err := action.ReadInput(nil, path, maxKeySize)
	if err == nil {
		value, err = as(raw)
	}
	if err != nil {
		err = problem.New(problem.ExitUsage, "use the key file "+path, err, "name a PEM file with an ECDSA P-256 key, as created by `openssl ecparam -name prime256v1 -genkey`")
	}
	return value, err
}

// PrivateKey returns the vendor's private key in the file or pipe at path.
func PrivateKey(path string) (trust.PrivateKey, error) {
	return parseKeyFile(path, trust.ParsePrivateKey)
}
