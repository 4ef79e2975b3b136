package bundle

import (
	"bytes"
	"debug/elf"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

// program stands for plinth: it prints its arguments and the command that ran the script, and exits
// with code 5.
const program = "#!/bin/sh\necho \"ran: $*\"\necho \"again: $PLINTH_INSTALL_COMMAND\"\nexit 5\n"

// site is a published folder on a web server.
type site struct {
	*httptest.Server
	dir       string
	intercept func(w http.ResponseWriter, r *http.Request) bool // reports whether it answered

	previous  string // content of the program on the host before the run; "" for none
	installed bool   // the host has a cluster
	program   string // content of the program after the run
}

// publishSite publishes a signed bundle with program.
func publishSite(t *testing.T) *site {
	t.Helper()
	return publishProgram(t, program)
}

// publishProgram publishes a signed bundle with the shell script text in place of plinth.
func publishProgram(t *testing.T, text string) *site {
	t.Helper()
	private, _ := keys(t)
	s := &site{dir: t.TempDir()}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.intercept == nil || !s.intercept(w, r) {
			http.FileServer(http.Dir(s.dir)).ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	res, err := Publish(t.Context(), PublishRequest{Bundles: []string{built(t, func(r *BuildRequest) { r.SignKey = private })}, URL: s.URL + "/",
		Out: s.dir, Programs: map[string]string{"linux/amd64": write(t, text)}, SignKey: private})
	if err != nil || !res.Signed || res.Fingerprint == "" {
		t.Fatalf("%+v, %v", res, err)
	}
	return s
}

// curl runs the first n bytes of the script as `curl … | bash -s -- args` does, with the
// download tool with. It returns what the run left in the target and temporary folders.
func (s *site) curl(t *testing.T, n int, with string, args ...string) (out string, code int, left []string) {
	t.Helper()
	script, err := os.ReadFile(filepath.Join(s.dir, "install.sh"))
	if err != nil {
		t.Fatal(err)
	}
	// Fake commands: the user is root, the platform is linux/amd64.
	tools, target, temp := t.TempDir(), t.TempDir(), t.TempDir()
	for name, text := range map[string]string{"id": "echo 0", "uname": "test \"$1\" = -s && echo Linux || echo x86_64", "sleep": ":"} {
		if err := os.WriteFile(filepath.Join(tools, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"bash", "mkdir", "dirname", "mktemp", "sha256sum", "cp", "chmod", "mv", "rm", "openssl", "sh", with} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(name + " is missing: make test-unit installs it")
		}
		if err := os.Symlink(path, filepath.Join(tools, name)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "bash", append([]string{"-s", "--"}, args...)...)
	unit := filepath.Join(tools, "k0scontroller.service")
	if s.installed {
		testkit.Must(t, os.WriteFile(unit, nil, 0o644))
	}
	if s.previous != "" {
		testkit.Must(t, os.WriteFile(filepath.Join(target, "plinth"), []byte(s.previous), 0o755))
	}
	text := strings.ReplaceAll(string(script[:min(n, len(script))]), "/etc/systemd/system/k0scontroller.service", unit)
	cmd.Stdin = strings.NewReader(text)
	cmd.Env = []string{"PATH=" + tools, "PLINTH_INSTALL_DIR=" + target, "TMPDIR=" + temp}
	got, _ := cmd.CombinedOutput()
	now, _ := os.ReadFile(filepath.Join(target, "plinth")) // empty if there is none
	s.program = string(now)
	for _, dir := range []string{target, temp} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			left = append(left, e.Name())
		}
	}
	return string(got), cmd.ProcessState.ExitCode(), left
}

const all = 1 << 20

func TestPublish_ScriptRunsVerifiedProgram(t *testing.T) {
	s := publishSite(t)
	for _, tool := range []string{"curl", "wget"} {
		t.Run(tool, func(t *testing.T) {
			out, code, left := s.curl(t, all, tool, "--yes", "--license", "my license.yaml")
			if want := "ran: install --source " + s.URL + "/linux-amd64 --yes --license my license.yaml\nagain: curl -fsSL " + s.URL + "/install.sh | sudo bash -s --\n"; out != want || code != 5 || left != nil {
				t.Errorf("exit %d, left %v: %s want %s", code, left, out, want)
			}
		})
	}
}

func TestPublish_ScriptReplacesProgramOnlyIfHostChanged(t *testing.T) {
	const (
		previous = "the program of the last release"
		program  = "#!/bin/sh\nfor last; do :; done\n[ \"$last\" != TERM ] || kill -TERM $PPID\nexit \"${last#TERM}\"\n"
	)
	s := publishProgram(t, program)
	for name, c := range map[string]struct {
		args      string // the last one is the exit code
		previous  string
		installed bool
		replaced  bool
	}{
		"installed":                           {"0", "", true, true},
		"upgraded":                            {"0", previous, true, true},
		"a step failed":                       {"7", "", false, true},
		"a step of an upgrade failed":         {"7", previous, true, true},
		"a plan file":                         {"--plan-file f 0", previous, true, true},
		"interrupted first install":           {"130", "", true, true},
		"usage":                               {"2", previous, true, false},
		"invalid file":                        {"3", previous, true, false},
		"invalid file, no program":            {"3", "", true, false},
		"preflights failed":                   {"5", previous, true, false},
		"refused bundle":                      {"6", previous, true, false},
		"locked":                              {"8", previous, true, false},
		"internal error":                      {"1", previous, true, false},
		"interrupted":                         {"130", previous, true, false},
		"interrupted before the first change": {"130", "", false, false},
		"stopped by a signal":                 {"TERM", previous, true, false},
		"plan":                                {"--plan 0", previous, true, false},
		"plan of a new host":                  {"--plan 0", "", false, false},
		"plan with a value":                   {"--yes --plan=true 0", previous, true, false},
		"help":                                {"--help 0", previous, true, false},
		"short help":                          {"-h 0", previous, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			s.previous, s.installed = c.previous, c.installed
			out, code, left := s.curl(t, all, "curl", strings.Fields(c.args)...)
			if s.program != c.previous && !c.replaced || c.replaced && !strings.HasPrefix(s.program, program) || len(left) > 1 {
				t.Errorf("exit %d, left %v, program %.40q: %s", code, left, s.program, out)
			}
		})
	}
}

func TestPublish_TruncatedScriptRunsNothing(t *testing.T) {
	s := publishSite(t)
	s.intercept = func(_ http.ResponseWriter, r *http.Request) bool { t.Error("request for " + r.URL.Path); return false }
	st, err := os.Stat(filepath.Join(s.dir, "install.sh"))
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < int(st.Size())-2; n++ { // the last bytes are the brace and the end of its line
		if n%241 != 0 && n < int(st.Size())-40 {
			continue
		}
		if out, _, left := s.curl(t, n, "curl"); strings.Contains(out, "ran") || left != nil {
			t.Fatalf("truncated at %d: left %v: %s", n, left, out)
		}
	}
}

func TestPublish_ScriptResumesDownloadAndRefusesWrongContent(t *testing.T) {
	const name = "/plinth-linux-amd64"
	answer := func(path string, do func(w http.ResponseWriter)) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != path {
				return false
			}
			do(w)
			return true
		}
	}
	text := func(text string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { _, _ = w.Write([]byte(text)) }
	}
	missing := func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }
	interrupted := false
	for what, c := range map[string]struct {
		intercept func(http.ResponseWriter, *http.Request) bool
		code      int
		want      string
	}{
		"another program":   {answer(name, text(program)), 6, "has the SHA-256"},
		"a web page":        {answer(name, text("<html>log in first</html>")), 6, "has the SHA-256"},
		"no program":        {answer(name, missing), 6, "cannot be fetched"},
		"a broken server":   {answer(name, func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) }), 6, "cannot be fetched"},
		"no signature":      {answer("/SHA256SUMS.sig", missing), 6, "cannot be fetched"},
		"another signature": {answer("/SHA256SUMS.sig", text("nonsense")), 6, "is not signed by the vendor's key"},
		"other sums":        {answer("/SHA256SUMS", text("0  plinth-linux-amd64\n")), 6, "is not signed by the vendor's key"},
		"endless sums":      {answer("/SHA256SUMS", text(strings.Repeat("0  plinth-linux-amd64\n", 1<<17))), 6, "cannot be fetched"},
		"interrupted download": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != name || r.Header.Get("Range") != "" {
				return false
			}
			w.Header().Set("Content-Length", strconv.Itoa(len(program)+1000))
			_, _ = w.Write([]byte(program[:20]))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, 5, "ran: install"},
		"interrupted download from a server without ranges": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != name {
				return false
			}
			r.Header.Del("Range")
			if interrupted {
				return false
			}
			interrupted = true
			w.Header().Set("Content-Length", strconv.Itoa(len(program)+1000))
			_, _ = w.Write([]byte(program[:20]))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, 5, "ran: install"},
		"a wrong range": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != name {
				return false
			}
			if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", "bytes 3-5/6")
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write([]byte("abc"))
				return true
			}
			w.Header().Set("Content-Length", strconv.Itoa(len(program)))
			_, _ = w.Write([]byte(program[:20]))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, 6, "cannot be fetched"},
	} {
		t.Run(what, func(t *testing.T) {
			s := publishSite(t)
			s.intercept = c.intercept
			out, code, left := s.curl(t, all, "curl")
			if code != c.code || !strings.Contains(out, c.want) || left != nil || c.code == 6 && (strings.Contains(out, "ran: ") || !strings.Contains(out, "→")) {
				t.Errorf("exit %d, left %v: %s", code, left, out)
			}
		})
	}
}

func TestPublish_PublishesTheWholeBundle(t *testing.T) {
	s := publishSite(t)
	remote, err := fetch.Dial(t.Context(), s.URL+"/linux-amd64", fetch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	thin, err := remote.FetchThinBundle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := airgap.OpenAt(t.Context(), bytes.NewReader(thin), int64(len(thin)), "thin")
	if err != nil {
		t.Fatal(err)
	}
	folder, err := blob.CreateFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.FetchBlobs(t.Context(), folder, b.Missing(), nil); err != nil {
		t.Fatal(err)
	}
	if err := b.WithBlobSource(folder, b.Missing()).Verify(t.Context(), nil); err != nil || len(b.Missing()) == 0 {
		t.Errorf("%d parts, %v", len(b.Missing()), err)
	}
	check := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "SHA256SUMS")
	check.Dir = s.dir
	if out, err := check.CombinedOutput(); err != nil || bytes.Count(out, []byte("OK")) != 6 {
		t.Errorf("%v: %s", err, out)
	}
}

func TestPublish_RefusesInvalidRequests(t *testing.T) {
	private, public := keys(t)
	_, other := keys(t)
	signed := built(t, func(r *BuildRequest) { r.SignKey = private })
	thin := built(t, func(r *BuildRequest) { r.SignKey, r.Thin = private, true })
	valid := PublishRequest{Bundles: []string{signed}, URL: "https://get.example.com/my-app", VerifyKey: public,
		Programs: map[string]string{"linux/amd64": write(t, program)}, Now: time.Now()}
	for name, c := range map[string]struct {
		change func(*PublishRequest)
		code   int
		want   string
	}{
		"valid":                   {func(*PublishRequest) {}, 0, ""},
		"plain http":              {func(r *PublishRequest) { r.URL = "http://get.example.com/my-app" }, problem.ExitUsage, "only https"},
		"no URL":                  {func(r *PublishRequest) { r.URL = "my-app" }, problem.ExitUsage, "not the address"},
		"a URL with code":         {func(r *PublishRequest) { r.URL = "https://x/';reboot;'" }, problem.ExitUsage, "not the address"},
		"another key":             {func(r *PublishRequest) { r.VerifyKey = other }, problem.ExitBundle, "not signed with the key"},
		"two keys":                {func(r *PublishRequest) { r.SignKey, r.VerifyKey = private, other }, problem.ExitUsage, "are not a key pair"},
		"a thin bundle":           {func(r *PublishRequest) { r.Bundles = []string{thin} }, problem.ExitBundle, "it is thin"},
		"a folder that is a file": {func(r *PublishRequest) { r.Out = signed }, problem.ExitUsage, "is not a folder"},
		"no program":              {func(r *PublishRequest) { r.Programs = map[string]string{"linux/amd64": "/nowhere"} }, problem.ExitUsage, "/nowhere"},
		"another platform": {func(r *PublishRequest) {
			r.Programs = map[string]string{"linux/amd64": emptyProgram(t, elf.EM_AARCH64)}
		}, problem.ExitUsage, "the executable is for linux/arm64, the bundle for linux/amd64"},
	} {
		t.Run(name, func(t *testing.T) {
			req := valid
			req.Out = filepath.Join(t.TempDir(), "public")
			c.change(&req)
			_, err := Publish(t.Context(), req)
			if problem.ExitCode(err) != c.code || err != nil && (!strings.Contains(err.Error(), c.want) || problem.Hint(err) == "") {
				t.Errorf("exit %d: %v", problem.ExitCode(err), err)
			}
		})
	}
}
