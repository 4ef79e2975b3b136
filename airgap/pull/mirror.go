package pull

import (
	"bufio"
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// Mirror is where the images of a registry are downloaded from instead of the
// registry itself: the repository a/b of Host is Target/a/b.
type Mirror struct {
	Host   string // registry, such as docker.io
	Target string // registry, and a path in it or none: harbor.example.com/dockerhub
}

// ParseMirror parses HOST=HOST/PATH.
func ParseMirror(text string) (Mirror, error) {
	host, target, ok := strings.Cut(strings.TrimSpace(text), "=")
	target = strings.TrimSuffix(target, "/")
	if !ok || host == "" || target == "" {
		return Mirror{}, fmt.Errorf("%q is not HOST=HOST/PATH, such as docker.io=harbor.example.com/dockerhub", text)
	}
	registry, err := name.NewRegistry(host)
	if err != nil {
		return Mirror{}, fmt.Errorf("mirror %q: %w", text, err)
	}
	if first, _, _ := strings.Cut(target, "/"); !strings.ContainsAny(first, ".:") || strings.Contains(target, "//") {
		return Mirror{}, fmt.Errorf("mirror %q: %q is not a host, such as harbor.example.com", text, first)
	}
	if _, err := name.NewRepository(target+"/image", name.StrictValidation); err != nil {
		return Mirror{}, fmt.Errorf("mirror %q: %w", text, err)
	}
	return Mirror{registry.RegistryStr(), target}, nil
}

// ParseMirrorFile parses a file with one HOST=HOST/PATH per line. Empty lines and
// those that begin with # are ignored.
func ParseMirrorFile(data []byte) (mirrors []Mirror, err error) {
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		m, err := ParseMirror(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		mirrors = append(mirrors, m)
	}
	return mirrors, lines.Err()
}

// mirrorOf returns the repository to download from instead of repo: that of the
// first mirror of its registry, or repo itself.
func mirrorOf(repo name.Repository, mirrors []Mirror) (name.Repository, error) {
	i := slices.IndexFunc(mirrors, func(m Mirror) bool { return m.Host == repo.RegistryStr() })
	if i < 0 {
		return repo, nil
	}
	return name.NewRepository(mirrors[i].Target+"/"+repo.RepositoryStr(), name.StrictValidation)
}
