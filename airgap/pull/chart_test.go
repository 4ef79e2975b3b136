package pull_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/airgap/pull"
	. "github.com/plinthdev/plinth/airgap/pull/pulltest"
	"github.com/plinthdev/plinth/internal/problem"
)

// chartRequest returns a request that downloads from u.
func chartRequest(t *testing.T, u *Upstream) pull.Request {
	return pull.Request{Folder: t.TempDir(), Transport: u.Transport, Backoff: time.Millisecond}
}

// index returns an index.yaml with one version of the chart hello.
func index(version, url, sum string) []byte {
	return fmt.Appendf(nil, "apiVersion: v1\nentries:\n  hello:\n    - {version: %s, urls: [%s], digest: %s}\n", version, url, sum)
}

func TestFetchChart_DownloadsOnce(t *testing.T) {
	archive := []byte("the archive of a chart")
	u := New(t)
	u.Push(t, "charts/hello:1.2.0_rc.1", BuildChart(t, archive))
	u.SetFile("/stable/index.yaml", index("1.2.0+rc.1", "hello-1.2.0.tgz", fmt.Sprintf("%x", sha256.Sum256(archive))))
	u.SetFile("/stable/hello-1.2.0.tgz", archive)
	for name, c := range map[string]struct {
		ref, mirror string
	}{
		"a registry":   {ref: "oci://" + u.Host() + "/charts/hello"},
		"a mirror":     {ref: "oci://registry.example.com/hello", mirror: u.Host() + "/charts"},
		"a repository": {ref: u.URL(Releases) + "/stable/hello"},
	} {
		t.Run(name, func(t *testing.T) {
			req, chart := chartRequest(t, u), pull.Chart{Ref: c.ref, Version: "1.2.0+rc.1"}
			if c.mirror != "" {
				req.Mirrors = []pull.Mirror{{Host: "registry.example.com", Target: c.mirror}}
			}
			if _, err := pull.StoredChart(t.Context(), req.Folder, chart); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("before the download: %v", err)
			}
			for i, downloads := range []int{1, 0} {
				u.Break(nil)
				got, err := pull.FetchChart(t.Context(), req, chart)
				if err != nil || string(got) != string(archive) {
					t.Fatalf("download %d: %q, %v", i, got, err)
				}
				if n := u.Count("cdn GET") + u.Count(".tgz"); n != downloads {
					t.Errorf("download %d read the archive %d times", i, n)
				}
			}
			if got, err := pull.StoredChart(t.Context(), req.Folder, chart); err != nil || string(got) != string(archive) {
				t.Errorf("from the folder: %q, %v", got, err)
			}
			chart.Version = "1.2.1"
			if _, err := pull.StoredChart(t.Context(), req.Folder, chart); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("another version: %v", err)
			}
		})
	}
}

func TestFetchChart_NamesWhatIsWrong(t *testing.T) {
	archive := []byte("the archive of a chart")
	sum := fmt.Sprintf("%x", sha256.Sum256(archive))
	large := make([]byte, limit.Document+1)
	for name, c := range map[string]struct {
		prepare func(*Upstream)
		oci     bool
		want    string
	}{
		"no such repository": {want: "index.yaml answers 404 Not Found"},
		"no such chart":      {prepare: func(u *Upstream) { u.SetFile("/s/index.yaml", []byte("entries: {}")) }, want: `index.yaml has no chart "hello"`},
		"no such version":    {prepare: func(u *Upstream) { u.SetFile("/s/index.yaml", index("1.2.1", "a.tgz", sum)) }, want: `index.yaml has no version "1.2.0" of hello; it has: 1.2.1`},
		"no version at all":  {prepare: func(u *Upstream) { u.SetFile("/s/index.yaml", []byte("entries: {hello: []}")) }, want: "index.yaml has no version of hello"},
		"a version without a URL": {prepare: func(u *Upstream) {
			u.SetFile("/s/index.yaml", []byte("entries: {hello: [{version: 1.2.0, digest: "+sum+"}]}"))
		}, want: `index.yaml has no URL of version "1.2.0" of hello`},
		"more than a chart may have": {prepare: func(u *Upstream) {
			u.SetFile("/s/index.yaml", index("1.2.0", "a.tgz", fmt.Sprintf("%x", sha256.Sum256(large))))
			u.SetFile("/s/a.tgz", large)
		}, want: fmt.Sprintf("a.tgz answers with %d bytes of application/octet-stream, the limit is %d", len(large), limit.Document)},
		"not an index":   {prepare: func(u *Upstream) { u.SetFile("/s/index.yaml", []byte("entries: 1")) }, want: "index.yaml cannot be read"},
		"no digest":      {prepare: func(u *Upstream) { u.SetFile("/s/index.yaml", index("1.2.0", "a.tgz", "''")) }, want: "index.yaml has no SHA-256 of this version"},
		"another scheme": {prepare: func(u *Upstream) { u.SetFile("/s/index.yaml", index("1.2.0", "'ftp://a.example/b'", sum)) }, want: "ftp://a.example/b is not an https URL"},
		"an altered archive": {prepare: func(u *Upstream) {
			u.SetFile("/s/index.yaml", index("1.2.0", "a.tgz", sum))
			u.SetFile("/s/a.tgz", []byte("altered"))
		}, want: "a.tgz"},
		"no archive":            {prepare: func(u *Upstream) { u.SetFile("/s/index.yaml", index("1.2.0", "a.tgz", sum)) }, want: "a.tgz answers 404"},
		"not in the registry":   {oci: true, want: "404"},
		"an image, not a chart": {oci: true, prepare: func(u *Upstream) { u.Push(t, "s/hello:1.2.0", airgaptest.BuildImage(t, airgaptest.Images()[0])) }, want: "it is not a Helm chart"},
		"login":                 {oci: true, prepare: func(u *Upstream) { u.RequireLogin("me:secret") }, want: "docker login"},
	} {
		t.Run(name, func(t *testing.T) {
			u := New(t)
			if c.prepare != nil {
				c.prepare(u)
			}
			ref := u.URL(Releases) + "/s/hello"
			if c.oci {
				ref = "oci://" + u.Host() + "/s/hello"
			}
			_, err := pull.FetchChart(t.Context(), chartRequest(t, u), pull.Chart{Ref: ref, Version: "1.2.0"})
			if problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "cannot download chart "+ref+" 1.2.0: ") {
				t.Errorf("%v\nwant …%s…", err, c.want)
			}
		})
	}
}

// A registry that fails for a moment does not fail a build.
func TestFetchChart_TriesAgain(t *testing.T) {
	u := New(t)
	u.Push(t, "s/hello:1.2.0", BuildChart(t, []byte("x")))
	u.Break(On(Registry, 1, func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	if got, err := pull.FetchChart(t.Context(), chartRequest(t, u), pull.Chart{Ref: "oci://" + u.Host() + "/s/hello", Version: "1.2.0"}); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}
