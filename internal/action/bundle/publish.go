package bundle

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/embed"
	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/action/source"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/scripts"
)

// PublishRequest describes what to publish.
type PublishRequest struct {
	Bundles       []string          // full bundles, one for each platform
	URL           string            // at which the folder will be served
	Out           string            // folder to write
	Programs      map[string]string // plinth executables by platform; default for the own platform is this executable
	SignKey       string            // file with the private key for SHA256SUMS; "" for none
	VerifyKey     string            // file with the public key to embed; "" for the one of SignKey or of this executable
	AllowUnsigned bool              // publish bundles that the key does not verify
	Now           time.Time
	Progress      func(done, total int64) // bytes; may be nil
}

// PublishResult describes the folder that was written. Its JSON format is public.
type PublishResult struct {
	Path        string   `json:"path"`
	URL         string   `json:"url"`
	Platforms   []string `json:"platforms"`
	Fingerprint string   `json:"fingerprint,omitempty"` // of the embedded key
	Signed      bool     `json:"signed"`                // whether SHA256SUMS is signed
	Size        int64    `json:"size"`                  // bytes of all blobs
}

// publisher carries out one request.
type publisher struct {
	PublishRequest
	key      trust.PublicKey
	sums     map[string]string // hex SHA-256 by name
	sumNames []string          // the names, in order
	res      PublishResult
}

// Publish writes a folder that any static web server can serve: the bundles, unpacked
// to blobs, the executables, and an install.sh that uses them. It writes the files that
// clients read first at the end, so that a folder can be replaced while it is served.
// Blobs of earlier releases stay.
func Publish(ctx context.Context, req PublishRequest) (PublishResult, error) {
	r := publisher{PublishRequest: req, sums: map[string]string{}}
	if err := r.checkOutput(); err != nil {
		return r.res, err
	}
	var err error
	if r.URL, err = parsePublishURL(req.URL); err != nil {
		return r.res, err
	}
	private, err := r.loadKeys()
	if err == nil {
		err = r.publishAll(ctx, private)
	}
	var p *problem.Problem
	if err != nil && !errors.As(err, &p) && ctx.Err() == nil {
		err = problem.New(problem.ExitUsage, "write the release to "+req.Out, err, "name a writable folder with enough free space")
	}
	r.res.Path, r.res.URL, r.res.Fingerprint = req.Out, r.URL, r.key.Fingerprint()
	return r.res, err
}

// checkOutput returns a usage problem if the folder is not writable or a published
// file would replace an input.
func (r *publisher) checkOutput() error {
	inputs := append(slices.Collect(maps.Values(r.Programs)), r.SignKey, r.VerifyKey)
	inputs = append(inputs, r.Bundles...)
	names := []string{"SHA256SUMS", "SHA256SUMS.sig", "install.sh"}
	platforms := append(slices.Collect(maps.Keys(r.Programs)), "linux/amd64", "linux/arm64")
	for _, p := range platforms {
		p = strings.ReplaceAll(p, "/", "-")
		names = append(names, "plinth-"+p, p+"/"+fetch.ThinBundleFile, p+"/"+format.IndexEntry, p+"/"+format.ChecksumEntry, p+"/"+format.SignatureEntry)
	}
	return CheckOutputFolder(r.Out, names, inputs...)
}

func (r *publisher) publishAll(ctx context.Context, private *trust.PrivateKey) error {
	for _, path := range r.Bundles {
		if err := r.publishBundle(ctx, path); err != nil {
			return err
		}
	}
	return r.writeSumsAndScript(private)
}

// parsePublishURL validates a URL that becomes part of a shell script, and returns it
// without a trailing slash.
func parsePublishURL(text string) (string, error) {
	u, err := url.Parse(text)
	bad := func(why string) (string, error) {
		at := "this URL"
		if err == nil {
			at = u.Redacted()
		}
		return "", problem.New(problem.ExitUsage, "publish at "+at, errors.New(why), "use --url to name the address at which the folder will be served, such as https://get.example.com/my-app")
	}
	switch {
	case err != nil || u.Host == "" || !regexp.MustCompile(`^[A-Za-z0-9:/._~%\[\]-]+$`).MatchString(text):
		return bad("it is not the address of a folder")
	case u.Scheme != "https" && (u.Scheme != "http" || u.Hostname() != "localhost" && !net.ParseIP(u.Hostname()).IsLoopback()):
		return bad("only https is safe to install from; http is limited to localhost")
	}
	return strings.TrimRight(text, "/"), nil
}

// loadKeys sets the key to embed, and returns the private key that signs, or nil.
func (r *publisher) loadKeys() (*trust.PrivateKey, error) {
	var err error
	if r.SignKey == "" {
		r.key, err = source.PublicKey(r.VerifyKey)
		return nil, err
	}
	private, err := source.PrivateKey(r.SignKey)
	if err != nil {
		return nil, err
	}
	public, err := private.Public()
	if err != nil {
		return nil, err
	}
	if r.key = public; r.VerifyKey != "" {
		if r.key, err = source.PublicKey(r.VerifyKey); err == nil && !r.key.Equal(public) {
			err = problem.New(problem.ExitUsage, "publish a release", errors.New("--sign-key and --verify-key are not a key pair"), "use the two keys of one pair, or --sign-key alone")
		}
	}
	return &private, err
}

// publishBundle publishes one bundle and the executable for its platform.
func (r *publisher) publishBundle(ctx context.Context, path string) (err error) {
	b, err := airgap.Open(ctx, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if len(b.Missing()) > 0 {
		return problem.New(problem.ExitBundle, "publish bundle "+path, errors.New("it is thin"), "name the full bundle")
	}
	if _, err := trust.Verify(path, b, trust.Policy{Key: r.key, AllowUnsigned: r.AllowUnsigned, Now: r.Now}); err != nil {
		return err
	}
	platform := strings.ReplaceAll(b.Platform(), "/", "-")
	r.res.Platforms = append(r.res.Platforms, b.Platform())
	folder, err := blob.CreateFolder(filepath.Join(r.Out, platform))
	if err != nil {
		return err
	}
	src := blob.WithProgress(b, blob.NewProgress(b.Inspect().Totals.Content, r.Progress))
	for _, it := range b.Items() {
		for _, d := range it.Blobs() {
			if err := folder.Put(ctx, d, func() (io.ReadCloser, error) { return src.Open(ctx, d) }); err != nil {
				return err
			}
		}
	}
	r.res.Size += b.Inspect().Totals.Content
	if err := r.publishProgram(ctx, platform, b.Platform()); err != nil {
		return err
	}
	return r.writeIndex(ctx, b, platform)
}

// writeIndex writes the indexes of a bundle's blobs: the thin bundle for plinth, and the
// OCI index for tools that read OCI layouts.
func (r *publisher) writeIndex(ctx context.Context, b *airgap.Bundle, platform string) error {
	files := map[string][]byte{format.IndexEntry: b.RawIndex(), format.ChecksumEntry: []byte(format.Checksum(b.RawIndex())), format.SignatureEntry: b.Signature()}
	for _, name := range []string{format.IndexEntry, format.ChecksumEntry, format.SignatureEntry} {
		if len(files[name]) == 0 {
			continue
		}
		if err := r.writeFile(platform+"/"+name, files[name]); err != nil {
			return err
		}
	}
	name := platform + "/" + fetch.ThinBundleFile
	if err := build.ThinArchive(b).WriteFile(ctx, filepath.Join(r.Out, name)); err != nil {
		return err
	}
	return r.addSum(name)
}

// publishProgram publishes the executable for a platform with the vendor's key embedded.
func (r *publisher) publishProgram(ctx context.Context, name, platform string) (err error) {
	var s embed.Embedded
	var closer io.Closer
	s, closer, err = source.OpenExecutable(cmp.Or(r.Programs[platform], source.ExecutablePath))
	if err != nil {
		return err
	}
	if err := checkProgram("publish for "+platform, s.Program, platform, "name the executable for it with --program "+platform+"=FILE"); err != nil {
		return errors.Join(err, closer.Close())
	}
	s.Bundle, s.Key = nil, r.key
	name = "plinth-" + name
	err = WriteExecutable(ctx, filepath.Join(r.Out, name), s)
	return errors.Join(err, closer.Close(), r.addSum(name))
}

// writeSumsAndScript writes SHA256SUMS, its signature and, at the end, install.sh.
func (r *publisher) writeSumsAndScript(private *trust.PrivateKey) error {
	var all, programs bytes.Buffer
	for _, name := range r.sumNames {
		line := r.sums[name] + "  " + name + "\n"
		all.WriteString(line)
		if strings.HasPrefix(name, "plinth-") {
			programs.WriteString(line)
		}
	}
	var key []byte
	if private != nil {
		key = r.key.PEM()
	}
	script := strings.NewReplacer("@NAME@", filepath.Base(r.URL), "@URL@", r.URL, "@SUMS@", strings.TrimSpace(programs.String()), "@KEY@", strings.TrimSpace(string(key))).Replace(scripts.InstallTemplate)
	sum := sha256.Sum256([]byte(script))
	fmt.Fprintf(&all, "%x  install.sh\n", sum)
	if err := r.writeFile("SHA256SUMS", all.Bytes()); err != nil {
		return err
	}
	if private != nil {
		signature, err := private.Sign(all.Bytes())
		if err == nil {
			err = r.writeFile("SHA256SUMS.sig", signature)
		}
		if err != nil {
			return err
		}
		r.res.Signed = true
	}
	return r.writeFile("install.sh", []byte(script))
}

func (r *publisher) writeFile(name string, data []byte) error {
	err := blob.WriteFile(filepath.Join(r.Out, name), func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return err
	}
	return r.addSum(name)
}

// addSum records the SHA-256 of a written file.
func (r *publisher) addSum(name string) error {
	file, err := os.Open(filepath.Join(r.Out, name))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return err
	}
	r.sums[name] = hex.EncodeToString(hash.Sum(nil))
	r.sumNames = append(r.sumNames, name)
	return nil
}
