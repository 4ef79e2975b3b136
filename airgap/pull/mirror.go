package pull

import (
	"errors"
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

// maxMirrorLength is the maximum length of HOST=HOST/PATH: two names of hosts and the path of a
// repository (255 characters each in Docker's registries).
const maxMirrorLength = 3 * 256

// ParseMirror parses HOST=HOST/PATH. The error does not contain a password.
func ParseMirror(text string) (Mirror, error) {
	switch {
	case strings.Contains(text, "@"):
		return Mirror{}, errors.New("a mirror has no user and no password: they come from docker login")
	case len(text) > maxMirrorLength:
		return Mirror{}, fmt.Errorf("a mirror has at most %d characters", maxMirrorLength)
	}
	host, target, ok := strings.Cut(strings.TrimSpace(text), "=")
	target = strings.TrimSuffix(target, "/")
	if !ok || host == "" || target == "" {
		return Mirror{}, fmt.Errorf("%q is not HOST=HOST/PATH, such as docker.io=harbor.example.com/dockerhub", text)
	}
	registry, err := name.NewRegistry(host)
	if err != nil {
		return Mirror{}, fmt.Errorf("mirror %q: %w", text, err)
	}
	if err := CheckTarget(target); err != nil {
		return Mirror{}, fmt.Errorf("mirror %q: %w", text, err)
	}
	return Mirror{registry.RegistryStr(), target}, nil
}

// CheckTarget returns an error unless target is a registry, and a path in it or none.
func CheckTarget(target string) error {
	if first, _, _ := strings.Cut(target, "/"); !strings.ContainsAny(first, ".:") || strings.Contains(target, "//") {
		return fmt.Errorf("%q is not a host, such as harbor.example.com", first)
	}
	for part := range strings.SplitSeq(target, "/") {
		if strings.Trim(part, ".") == "" {
			return fmt.Errorf("%q is not the name of a repository", part)
		}
	}
	_, err := name.NewRepository(target+"/image", name.StrictValidation)
	return err
}

// ParseMirrorFile parses a file with one HOST=HOST/PATH per line. Empty lines and
// those that begin with # are ignored.
func ParseMirrorFile(data []byte) (mirrors []Mirror, err error) {
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		m, err := ParseMirror(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		mirrors = append(mirrors, m)
	}
	return mirrors, nil
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
