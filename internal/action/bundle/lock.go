package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/lockfile"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// LockRequest describes the lock file to write.
type LockRequest struct {
	Installer string    // file
	Source    string    // folder in OCI image layout, or "registry"
	Downloads Downloads // for Source "registry"
	Platforms []string  // such as linux/arm64; nil for those that are locked already, else linux/amd64
	Out       string    // file to write; "" for the one beside the Installer
}

// LockResult describes the written lock file. Its JSON format is public.
type LockResult struct {
	Path string `json:"path"`
	lockfile.File
	Changes []PlatformChanges `json:"changes,omitempty"` // from the lock file that was there before
}

// PlatformChanges are the changes of a lock for one platform.
type PlatformChanges struct {
	Platform    string                `json:"platform"`
	Differences []lockfile.Difference `json:"differences"`
}

// Lock resolves every version that an Installer pins and writes the lock file.
func Lock(ctx context.Context, req LockRequest) (LockResult, error) {
	if req.Out == "" {
		req.Out = lockfile.Path(req.Installer)
	}
	in, files, err := readInstaller(ctx, req.Installer, "", "lock the versions of this Installer")
	if err != nil {
		return LockResult{}, err
	}
	if err := CheckOutputFile(req.Out, append(layoutFiles(req.Source, req.Out), req.Installer)...); err != nil {
		return LockResult{}, err
	}
	before, _ := readLockFile(req.Out, "") // one that is invalid or absent is replaced
	if req.Platforms == nil {
		req.Platforms = before.PlatformNames()
	}
	if req.Platforms == nil {
		req.Platforms = []string{build.DefaultPlatform}
	}
	slices.Sort(req.Platforms)
	res := LockResult{Path: req.Out}
	var platforms []lockfile.Platform
	for _, name := range slices.Compact(req.Platforms) {
		found, err := lockPlatform(ctx, req, in, lockTarget{files[0], name})
		if err != nil {
			return LockResult{}, err
		}
		platforms = append(platforms, found)
		if was, ok := before.Platform(name); ok {
			if diff := lockfile.Compare(was, found); diff != nil {
				res.Changes = append(res.Changes, PlatformChanges{name, diff})
			}
		}
	}
	if res.File, err = lockfile.New(in, platforms); err != nil {
		return LockResult{}, err
	}
	return res, writeLockFile(req.Out, res.File)
}

// lockTarget is an Installer's file and a platform.
type lockTarget struct {
	installer spec.File
	platform  string
}

// lockPlatform returns what the versions of an Installer are now, for one platform.
func lockPlatform(ctx context.Context, req LockRequest, in *spec.Installer, target lockTarget) (found lockfile.Platform, err error) {
	src, closeSource, err := openSource(ctx, req.Source, req.Downloads, target.platform, req.Out)
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, closeSource()) }()
	if src.charts, err = src.readCharts(ctx, in, target.installer, req.Downloads.Note); err != nil {
		return found, err
	}
	want, err := resolveContents(ctx, in, src)
	if err != nil {
		return found, err
	}
	return src.resolve(ctx, want)
}

// lockCheck compares what a bundle gets with the lock file of its Installer.
type lockCheck struct {
	path    string
	locked  lockfile.Platform
	exists  bool              // the lock file exists
	usable  bool              // it is that of the Installer for the platform
	strict  bool              // a difference is an error
	command string            // that writes the lock file again
	note    func(text string) // receives the differences otherwise
}

// newLockCheck reads the lock file of the Installer in for a build. It fails if the file is invalid
// or, with --locked, absent or not that of the Installer.
func newLockCheck(req BuildRequest, in *spec.Installer, platform string) (lockCheck, error) {
	c := lockCheck{path: lockfile.Path(req.Installer), strict: req.Locked, note: req.Downloads.Note, command: lockCommand(req, []string{platform})}
	if c.note == nil {
		c.note = func(string) {}
	}
	file, err := readLockFile(c.path, c.command)
	if errors.Is(err, fs.ErrNotExist) {
		if !c.strict {
			return c, nil
		}
		return c, problem.Newf(problem.ExitConfig, "build with --locked", "write it with: "+c.command, "%s does not exist", c.path)
	}
	if err != nil {
		return c, err
	}
	c.exists = true
	c.command = lockCommand(req, append(file.PlatformNames(), platform))
	if err := file.CheckCurrent(in, platform); err != nil {
		if c.strict {
			return c, problem.New(problem.ExitConfig, "build with --locked", fmt.Errorf("%s: %w", c.path, err), "write it again with: "+c.command)
		}
		c.note(fmt.Sprintf("%s is not used: %s. Write it again with: %s", c.path, err, c.command))
		return c, nil
	}
	c.locked, _ = file.Platform(platform)
	c.usable = true
	return c, nil
}

// compare reports the differences between the lock and what was found.
func (c lockCheck) compare(found lockfile.Platform) error {
	if !c.usable {
		return nil
	}
	diff := lockfile.Compare(c.locked, found)
	if diff == nil {
		return nil
	}
	var lines []string
	for _, d := range diff {
		lines = append(lines, "  "+d.String())
	}
	text := strings.Join(lines, "\n")
	if c.strict {
		return problem.Newf(problem.ExitBundle, "build with --locked",
			"find out why it changed; accept it with: "+c.command, "the source differs from %s:\n%s", c.path, text)
	}
	c.note(fmt.Sprintf("The source differs from %s:\n%s", c.path, text))
	return nil
}

// writeAbsent writes the lock file if there is none. A folder that cannot be written is no reason to
// refuse the bundle.
func (c lockCheck) writeAbsent(in *spec.Installer, found lockfile.Platform) error {
	if c.exists {
		return nil
	}
	file, err := lockfile.New(in, []lockfile.Platform{found})
	if err != nil {
		return err
	}
	if err := writeLockFile(c.path, file); err != nil {
		c.note(err.Error())
	}
	return nil
}

// readInstaller reads and lints an Installer and, unless its path is "", an Application, and returns
// the Installer and the content of the two files.
func readInstaller(ctx context.Context, installer, application, doing string) (*spec.Installer, []spec.File, error) {
	paths := []string{installer}
	if application != "" {
		paths = append(paths, application)
	}
	files, err := config.ReadFiles(ctx, paths)
	if err != nil {
		return nil, nil, err
	}
	report := config.LintFiles(files)
	if err := report.Err(doing); err != nil {
		return nil, nil, err
	}
	// Lint accepts the two files in any order, but the caller needs to know which is the Installer.
	first := report.Installer
	if application != "" {
		first = spec.Lint(files[:1]).Installer
	}
	if first == nil {
		return nil, nil, problem.New(problem.ExitConfig, doing, errors.New(installer+" is not an Installer"), "name the Installer first, with --installer where there is that flag")
	}
	return report.Installer, files, nil
}

// maxSmallFile is the maximum size in bytes of a lock file, a file with mirrors or a manifest of KOTS.
const maxSmallFile = 1 << 20

// readSmallFile returns the content of a file, at most maxSmallFile and one byte.
func readSmallFile(path string) ([]byte, error) {
	f, err := host.OpenInput(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxSmallFile+1))
}

// lockCommand returns the command that writes the lock file for a build and for platforms.
func lockCommand(req BuildRequest, platforms []string) string {
	command := "plinth lock " + problem.QuoteWord(req.Installer)
	slices.Sort(platforms)
	if platforms = slices.Compact(platforms); len(platforms) > 1 || platforms[0] != build.DefaultPlatform {
		command += " --platform " + strings.Join(platforms, " --platform ")
	}
	if req.Source != fromRegistry {
		command += " --source " + problem.QuoteWord(req.Source)
	}
	return command
}

// readLockFile returns the lock file at path, which command writes again. The error is fs.ErrNotExist if
// there is none.
func readLockFile(path, command string) (lockfile.File, error) {
	raw, err := readSmallFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return lockfile.File{}, err
	}
	if err != nil {
		return lockfile.File{}, problem.New(problem.ExitConfig, "read lock file "+path, systemCause(err), "make it a readable file, or write it again with: "+command)
	}
	return lockfile.Parse(path, raw, command)
}

// writeLockFile writes a lock file.
func writeLockFile(path string, file lockfile.File) error {
	raw, err := file.Marshal()
	if err == nil {
		err = blob.WriteFile(path, func(w io.Writer) error {
			_, err := io.Copy(w, bytes.NewReader(raw))
			return err
		})
	}
	if err != nil {
		return problem.New(problem.ExitUsage, "write lock file "+path, systemCause(err), "make its folder writable, or name another file with --output-file")
	}
	return nil
}
