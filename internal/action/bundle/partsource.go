package bundle

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/pull"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/charts"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/lockfile"
	"github.com/plinthdev/plinth/internal/problem"
)

// fromRegistry is the Source for the registries and release downloads of the upstream projects.
const fromRegistry = "registry"

// partSource is where the host files and images of a bundle come from.
type partSource struct {
	layout    string        // folder in OCI image layout; for the registries the one to which parts are downloaded
	downloads *pull.Request // without parts; from where they are downloaded to layout; nil if they are there
	runDir    string        // folder for programs that name their images, absolute; exists only while they run
	platform  string
	charts    []charts.Chart // of the Installer; see readCharts
}

// openSource returns the source that a user named, a folder or fromRegistry. Parts from registries are
// downloaded to the cache, which nothing else uses until closeSource is called. Programs run beside the
// file out.
func openSource(ctx context.Context, source string, d Downloads, platform, out string) (src partSource, closeSource func() error, err error) {
	refuse := func(doing, cause, hint string) (partSource, func() error, error) {
		return src, nil, problem.New(problem.ExitUsage, doing, errors.New(cause), hint)
	}
	if strings.Contains(source, "://") {
		return refuse("use the source", "--source is a URL", "give a folder in OCI image layout, such as out/payload, or registry")
	}
	if platform, err = choosePlatform(platform); err != nil {
		return src, nil, err
	}
	file, err := filepath.Abs(out)
	if err != nil {
		return src, nil, err
	}
	src = partSource{layout: source, runDir: file + ".run", platform: platform}
	if source == fromRegistry {
		if src.layout, err = config.DownloadCache(d.Cache); err == nil {
			src.downloads, closeSource, err = d.open(ctx, src.layout, platform)
		}
		return src, closeSource, err
	}
	if d.isSet() {
		return refuse("use the source", "--cache, --mirror, --mirrors and --releases are for --source registry", "omit them, or omit --source")
	}
	return src, func() error { return nil }, nil
}

// choosePlatform returns the platform that a user named, or the default for "".
func choosePlatform(name string) (string, error) {
	name = cmp.Or(name, build.DefaultPlatform)
	if err := lockfile.CheckPlatform(name); err != nil {
		return "", problem.New(problem.ExitUsage, "use --platform", err, "name one of the two; the default is "+build.DefaultPlatform)
	}
	return name, nil
}

// download puts the parts of want into the layout, unless they are in one already.
func (s partSource) download(ctx context.Context, want build.Request) error {
	if s.downloads == nil {
		return nil
	}
	req := *s.downloads
	req.HostFiles, req.Images = want.HostFiles, want.Images
	return pull.Fetch(ctx, req)
}

// resolve returns what the parts of want are now where they come from.
func (s partSource) resolve(ctx context.Context, want build.Request) (lockfile.Platform, error) {
	if s.downloads == nil {
		return s.resolveStored(ctx, want)
	}
	return s.resolvePublished(ctx, want)
}

// resolvePublished returns what the registries and release pages have for the parts of want.
func (s partSource) resolvePublished(ctx context.Context, want build.Request) (lockfile.Platform, error) {
	found, req := lockfile.Platform{Name: s.platform, Charts: s.lockedCharts()}, *s.downloads
	req.HostFiles, req.Images = want.HostFiles, want.Images
	files, images, err := pull.Resolve(ctx, req)
	if err != nil {
		return found, err
	}
	for i, r := range files {
		found.HostFiles = append(found.HostFiles, s.publishedFile(want.HostFiles[i], r.Digest.String(), r.Size))
	}
	for i, r := range images {
		found.Images = append(found.Images, lockfile.Image{Reference: want.Images[i], Digest: r.Digest.String(), Size: r.Size})
	}
	return found, nil
}

// resolveStored returns what the layout has for the parts of want.
func (s partSource) resolveStored(ctx context.Context, want build.Request) (lockfile.Platform, error) {
	found := lockfile.Platform{Name: s.platform, Charts: s.lockedCharts()}
	want.Layout, want.Platform = s.layout, s.platform
	items, err := build.Select(ctx, want)
	if err != nil {
		return found, err
	}
	for _, it := range items {
		if it.Kind == format.KindImage {
			found.Images = append(found.Images, lockfile.Image{Reference: it.Name, Digest: it.Manifest.Digest.String(), Size: it.Size()})
			continue
		}
		file, err := it.HostFile()
		if err != nil {
			return found, err
		}
		found.HostFiles = append(found.HostFiles, s.storedFile(file, it.Manifest.Annotations))
	}
	return found, nil
}

// storedFile returns a host file of the layout, with the digest and the size of the download from which
// package pull stored it, if it did. A download that is the program must have the program's digest: the
// annotations of a layout are not verified.
func (s partSource) storedFile(file format.HostFile, annotations map[string]string) lockfile.HostFile {
	digest := annotations[format.AnnotationDownloadDigest]
	size, err := strconv.ParseInt(annotations[format.AnnotationDownloadSize], 10, 64)
	isArchive := slices.ContainsFunc(pull.UpstreamReleases(), func(r pull.Release) bool { return r.Name == file.Name && r.Member != "" })
	if digest == "" || err != nil || !isArchive && (digest != file.Digest.String() || size != file.Size) {
		return lockfile.HostFile{Name: file.Name, Version: file.Version, Digest: file.Digest.String(), Size: file.Size}
	}
	locked := s.publishedFile(build.HostFile{Name: file.Name, Version: file.Version}, digest, size)
	if isArchive {
		locked.Program = file.Digest.String()
	}
	return locked
}

// publishedFile returns a host file with the digest and size of its download. The URL is that of the
// project itself, also if it was downloaded from elsewhere.
func (s partSource) publishedFile(f build.HostFile, digest string, size int64) lockfile.HostFile {
	locked := lockfile.HostFile{Name: f.Name, Version: f.Version, Digest: digest, Size: size}
	_, arch, _ := strings.Cut(s.platform, "/")
	for _, r := range pull.UpstreamReleases() {
		if r.Name == f.Name {
			locked.URL = r.URL(f.Version, arch)
		}
	}
	return locked
}

// hostProgram is a host file that runs on this machine.
type hostProgram struct {
	path string
	dir  string                                             // the folder of its file, its home
	run  func(stdin string, args ...string) ([]byte, error) // runs it and returns its standard output
}

// programTimeout bounds how long a program is asked.
const programTimeout = time.Minute

// withProgram calls use with a host file of this machine's platform, verified like one that a bundle
// gets, and removes it. The program gets no environment but PATH, a locale and an empty home.
func (s partSource) withProgram(ctx context.Context, file build.HostFile, use func(hostProgram) error) (err error) {
	platform := "linux/" + runtime.GOARCH // "linux" also on another system, where it fails by name
	if s.downloads != nil {
		req := *s.downloads
		req.HostFiles, req.Platform = []build.HostFile{file}, platform
		if err := pull.Fetch(ctx, req); err != nil {
			return err
		}
	}
	local := host.Local("/")
	if err := local.MkdirAll(s.runDir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, local.RemoveAll(s.runDir)) }()
	path := filepath.Join(s.runDir, file.Name)
	if err := build.ExtractHostFile(ctx, s.layout, platform, file, path); err != nil {
		return err
	}
	return use(hostProgram{path: path, dir: s.runDir, run: func(stdin string, args ...string) ([]byte, error) {
		return local.Run(ctx, host.Cmd{Argv: append([]string{path}, args...), Env: []string{"HOME=" + s.runDir, "TMPDIR=" + s.runDir},
			Stdin: strings.NewReader(stdin), Timeout: programTimeout})
	}})
}

// imageLine matches the line of a manifest that names an image.
const imageLine = `^\s*(?:- )?image: *["']?([^"'\s]+)["']?\s*$`

// manifestImages returns the image references in the YAML files below the program's folder.
func (p hostProgram) manifestImages() ([]string, error) {
	var refs []string
	pattern := regexp.MustCompile(imageLine)
	err := filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		raw, err := readSmallFile(path)
		if err != nil {
			return err
		}
		for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
			if m := pattern.FindStringSubmatch(lines.Text()); m != nil && !slices.Contains(refs, m[1]) {
				refs = append(refs, m[1])
			}
		}
		return nil
	})
	if err == nil && refs == nil {
		err = fmt.Errorf("`%s` wrote no manifest with an image", p.path)
	}
	return refs, err
}
