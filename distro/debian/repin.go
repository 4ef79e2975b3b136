package debian

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/problem"
)

// Repin returns the lock with every entry updated to the newest version that its
// suite, or the security updates of the suite, have on the mirrors now. The machine's
// own apt lists are neither used nor changed.
func Repin(ctx context.Context, l *Lock, sites []string) (*Lock, error) {
	now := &Lock{Comment: l.Comment, Entries: slices.Clone(l.Entries)}
	roots := map[string]*aptRoot{}
	for i, e := range now.Entries {
		root, ok := roots[e.Suite]
		if !ok {
			var err error
			if root, err = newAptRoot(ctx, sourcesList(sites, e.Suite)); err != nil {
				return nil, problem.New(problem.ExitInternal, "read the package list of "+e.Suite, err, "")
			}
			defer root.removeDir()
			roots[e.Suite] = root
		}
		found, err := root.lookupEntry(ctx, e)
		if err != nil {
			return nil, problem.New(problem.ExitInternal, "update the pin of "+e.Name, err, "")
		}
		now.Entries[i] = found
	}
	return now, nil
}

// Diff returns the entries that changed from one lock to another, each as a line
// with - and a line with +.
func Diff(from, to *Lock) string {
	var b strings.Builder
	for i, e := range from.Entries {
		if e != to.Entries[i] {
			fmt.Fprintf(&b, "- %s\n+ %s\n", e, to.Entries[i])
		}
	}
	return b.String()
}

// aptRoot is a private apt configuration with one suite.
type aptRoot struct {
	dir  string
	opts []string
}

// sourcesList returns the text of a sources.list with a suite, from the first site,
// and its security updates, from the site whose name ends in -security, if there is one.
func sourcesList(sites []string, suite string) string {
	const key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
	list := fmt.Sprintf("deb %s %s %s main\ndeb-src %s %s %s main\n", key, sites[0], suite, key, sites[0], suite)
	for _, site := range sites[1:] {
		if strings.HasSuffix(site, "-security") {
			list += fmt.Sprintf("deb %s %s %s-security main\n", key, site, suite)
		}
	}
	return list
}

func newAptRoot(ctx context.Context, sources string) (*aptRoot, error) {
	dir, err := os.MkdirTemp("", "plinth-apt-")
	if err != nil {
		return nil, err
	}
	r := &aptRoot{dir: dir, opts: []string{
		"-o", "Dir::Etc::sourcelist=" + filepath.Join(dir, "sources.list"), "-o", "Dir::Etc::sourceparts=/dev/null",
		"-o", "Dir::State::Lists=" + filepath.Join(dir, "lists"), "-o", "Dir::Cache=" + filepath.Join(dir, "cache"),
		"-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none",
	}}
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "sources.list"), []byte(sources), 0o644); err != nil {
		return nil, err
	}
	_, err = commandOutput(ctx, "apt-get", append(r.opts, "update", "-q")...)
	return r, err
}

func (r *aptRoot) removeDir() { _ = os.RemoveAll(r.dir) }

// lookupEntry returns the entry with the version, sum and path that the suite has now.
func (r *aptRoot) lookupEntry(ctx context.Context, e Entry) (Entry, error) {
	if source, ok := strings.CutSuffix(e.Name, ".orig"); ok {
		out, err := commandOutput(ctx, "apt-cache", append(r.opts, "showsrc", "--only-source", source)...)
		if err != nil {
			return e, err
		}
		return parseSource(e, out)
	}
	out, err := commandOutput(ctx, "apt-cache", append(r.opts, "show", "--no-all-versions", e.Name)...)
	if err != nil {
		return e, err
	}
	return parsePackage(e, out)
}

// parsePackage parses a paragraph of the output of `apt-cache show`.
func parsePackage(e Entry, out string) (Entry, error) {
	f := parseControlFields(out)
	return parseEntry(strings.Join([]string{e.Name, e.Suite, f["Version"], f["SHA256"], f["Size"], f["Filename"], e.License}, " "))
}

// parseSource parses a paragraph of the output of `apt-cache showsrc`.
func parseSource(e Entry, out string) (Entry, error) {
	f := parseControlFields(out)
	for _, line := range strings.Split(f["Checksums-Sha256"], "\n") {
		p := strings.Fields(line)
		if len(p) == 3 && strings.Contains(p[2], ".orig.tar.") && !strings.HasSuffix(p[2], ".asc") {
			return parseEntry(strings.Join([]string{e.Name, e.Suite, f["Version"], p[0], p[1], f["Directory"] + "/" + p[2], e.License}, " "))
		}
	}
	return e, fmt.Errorf("%s has no upstream tarball in %s", e.Name, e.Suite)
}

// parseControlFields parses the first paragraph of a control file. Continuation
// lines are joined by newlines.
func parseControlFields(text string) map[string]string {
	out := map[string]string{}
	key := ""
	for _, line := range strings.Split(text, "\n") {
		switch {
		case line == "" && len(out) > 0:
			return out
		case strings.HasPrefix(line, " "):
			out[key] += "\n" + strings.TrimSpace(line)
		default:
			k, v, _ := strings.Cut(line, ":")
			key = k
			out[key] = strings.TrimSpace(v)
		}
	}
	return out
}
