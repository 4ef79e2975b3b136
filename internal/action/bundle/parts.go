package bundle

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/airgap/pull"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/wait"
)

// Downloads describes from where parts are downloaded, and to where.
type Downloads struct {
	Cache       string                  // folder that keeps the parts for later builds; "" for the user's cache folder
	Mirrors     []string                // HOST=HOST/PATH: where to download the images of a registry from instead
	MirrorsFile string                  // file with such lines; "" for none
	Releases    string                  // URL that serves what is below https://github.com; "" for GitHub itself
	Progress    func(done, total int64) // bytes; may be nil
	Note        func(text string)       // receives why something is attempted again or in another way; may be nil
}

// isSet reports whether d has a setting that is only for downloads.
func (d Downloads) isSet() bool {
	return d.Cache != "" || len(d.Mirrors) > 0 || d.MirrorsFile != "" || d.Releases != ""
}

// open returns a request without parts, which downloads to a folder from where d says. Nothing else
// fetches into the folder until unlock is called.
func (d Downloads) open(ctx context.Context, folder, platform string) (req *pull.Request, unlock func() error, err error) {
	req = &pull.Request{Folder: folder, Platform: platform, Progress: d.Progress, Note: d.Note}
	if req.Mirrors, err = d.parseMirrors(); err != nil {
		return nil, nil, err
	}
	if req.Releases, err = d.releases(); err != nil {
		return nil, nil, err
	}
	if _, err := blob.CreateFolder(folder); err != nil {
		return nil, nil, problem.New(problem.ExitUsage, "use the folder for downloaded parts", err, "choose another folder for them")
	}
	unlock, err = lockFolder(ctx, folder, d.Note)
	return req, unlock, err
}

// parseMirrors returns the mirrors of the flags, and then those of the file.
func (d Downloads) parseMirrors() (mirrors []pull.Mirror, err error) {
	for _, text := range d.Mirrors {
		m, err := pull.ParseMirror(text)
		if err != nil {
			return nil, problem.New(problem.ExitUsage, "parse --mirror", err, "write it as --mirror docker.io=harbor.example.com/dockerhub")
		}
		mirrors = append(mirrors, m)
	}
	if d.MirrorsFile == "" {
		return mirrors, nil
	}
	data, err := readMirrors(d.MirrorsFile)
	var more []pull.Mirror
	if err == nil {
		more, err = pull.ParseMirrorFile(data)
	}
	if err != nil {
		return nil, problem.New(problem.ExitUsage, "read the mirrors in "+d.MirrorsFile, err, "write one HOST=HOST/PATH per line, such as docker.io=harbor.example.com/dockerhub")
	}
	return append(mirrors, more...), nil
}

// readMirrors reads a file with mirrors. The error does not name the file.
func readMirrors(path string) ([]byte, error) {
	data, err := readSmallFile(path)
	if len(data) > maxSmallFile {
		return nil, fmt.Errorf("it has more than %d bytes", maxSmallFile)
	}
	return data, systemCause(err)
}

// releases returns the release pages of the host files.
func (d Downloads) releases() ([]pull.Release, error) {
	if d.Releases == "" {
		return pull.UpstreamReleases(), nil
	}
	if err := checkReleasesURL(d.Releases); err != nil {
		return nil, problem.New(problem.ExitUsage, "parse --releases", err, "write it as --releases https://artifactory.example.com/artifactory/github")
	}
	return pull.ReleasesAt(d.Releases), nil
}

// checkReleasesURL returns an error unless text is the URL of a folder. The error does not contain a password.
func checkReleasesURL(text string) error {
	if strings.Contains(text, "@") {
		return errors.New("the URL of release pages has no user and no password")
	}
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.Scheme != "https" && u.Scheme != "http", strings.ContainsAny(text, "?#"), !isPort(u.Port()):
		return fmt.Errorf("%q is not an https URL of a folder", text)
	case !fetch.IsEncrypted(u):
		return fmt.Errorf("%q is plain http: without TLS only the local machine is allowed", text)
	}
	return nil
}

// isPort reports whether the port of a URL, "" for none, is one.
func isPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

// maxLockWait is how long a build waits for another one that uses the same cache.
const maxLockWait = time.Hour

// lockFolder waits until no other process fetches into a folder, and locks it.
func lockFolder(ctx context.Context, folder string, note func(string)) (unlock func() error, err error) {
	waiting := func(string) {
		if note != nil {
			note("another build uses " + folder + ": waiting for it; builds with different folders do not wait")
		}
	}
	err = wait.Until(ctx, wait.Options{What: "another build that uses " + folder, Timeout: maxLockWait, OnReason: waiting, NextCommand: "fuser -v " + filepath.Join(folder, lockFile)},
		func(context.Context) (bool, string, error) {
			var err error
			unlock, _, err = host.Lock(filepath.Join(folder, lockFile), nil)
			if errors.Is(err, host.ErrLocked) {
				return false, "it is still in use", nil
			}
			return err == nil, "", err
		})
	return unlock, err
}

// lockFile is the name of the file in a folder that is locked while parts are
// fetched into it.
const lockFile = ".plinth-lock"
