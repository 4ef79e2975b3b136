package debian

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/plinthdev/plinth/internal/problem"
)

// Mirror downloads pinned files into Dir, from the sites that apt uses on this
// machine.
type Mirror struct {
	Dir   string
	Sites []string // roots, http or https, without a trailing slash
}

// NewMirror returns a mirror with the sites that apt is configured for. Files are
// downloaded into the folder dir.
func NewMirror(ctx context.Context, dir string) (*Mirror, error) {
	out, err := commandOutput(ctx, "apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages")
	if err != nil {
		return nil, problem.New(problem.ExitInternal, "list the mirrors of apt", err, "run the build on a Debian machine")
	}
	m := &Mirror{Dir: dir}
	for _, site := range strings.Fields(out) {
		site = strings.TrimRight(site, "/")
		if strings.HasPrefix(site, "http") && !strings.Contains(strings.Join(m.Sites, "\n")+"\n", site+"\n") {
			m.Sites = append(m.Sites, site)
		}
	}
	if len(m.Sites) == 0 {
		return nil, problem.Newf(problem.ExitInternal, "find a Debian mirror", "run: apt-get update", "apt has no http mirror configured")
	}
	return m, nil
}

// Fetch returns the path of the entry's file and downloads the file if it is
// missing. A file whose digest is not the pinned one is an error.
func (m *Mirror) Fetch(ctx context.Context, e Entry) (string, error) {
	file := filepath.Join(m.Dir, e.Sum+"-"+filepath.Base(e.Path))
	if fileSum(file) == e.Sum {
		return file, nil
	}
	if err := os.MkdirAll(m.Dir, 0o755); err != nil {
		return "", err
	}
	var faults []error
	for _, site := range m.Sites {
		err := downloadFile(ctx, site+"/"+e.Path, file, e)
		if err == nil {
			return file, nil
		}
		faults = append(faults, err)
	}
	return "", problem.New(problem.ExitInternal, "download "+e.Name+" "+e.Version, errors.Join(faults...),
		"if the mirror has a newer version, run: payload repin")
}

func downloadFile(ctx context.Context, url, file string, e Entry) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, res.Status)
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".get-*")
	if err != nil {
		return err
	}
	defer func() { _, _ = tmp.Close(), os.Remove(tmp.Name()) }() // both fail after a success, which is harmless
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(tmp, sum), io.LimitReader(res.Body, e.Size+1)); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != e.Sum {
		return fmt.Errorf("%s: sha256 is %s, %s says %s", url, got, LockFile, e.Sum)
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}

// fileSum returns the file's sha256 in hex, or "" if the file cannot be read.
func fileSum(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return ""
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// Unpack unpacks the files of a package below dir. It copies a source tarball
// into dir, under the entry's name.
func Unpack(ctx context.Context, e Entry, file, dir string) error {
	if !strings.HasSuffix(e.Path, ".deb") {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, e.Name), b, 0o644)
	}
	_, err := commandOutput(ctx, "dpkg-deb", "-x", file, dir)
	return err
}

// WalkFiles calls fn for every entry of the package's file tree, in the package's
// order. Names are absolute paths.
func WalkFiles(ctx context.Context, file string, fn func(h *tar.Header, r io.Reader) error) error {
	out, err := commandOutput(ctx, "dpkg-deb", "--fsys-tarfile", file)
	if err != nil {
		return err
	}
	tr := tar.NewReader(strings.NewReader(out))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		h.Name = "/" + strings.Trim(strings.TrimPrefix(h.Name, "."), "/")
		if err := fn(h, tr); err != nil {
			return err
		}
	}
}

// commandOutput runs a tool and returns its stdout. The error contains its stderr.
func commandOutput(ctx context.Context, name string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}
