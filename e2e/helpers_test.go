//go:build e2e || bench

// Package e2e tests Plinth on real hosts: real systemd, real k0s, real KOTS, and no
// network except the lab's.
package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/e2e/lab"
)

// Paths of the executable and the bundle on a host.
const (
	binary = "/usr/local/sbin/plinth"
	bundle = "/srv/my-app.bundle"
)

// requireEnv returns an environment variable that `make test-e2e` sets.
func requireEnv(t testing.TB, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		t.Fatalf("%s is not set: run make test-e2e", name)
	}
	return v
}

// startHostWithPlinth boots a fresh host with the executable and the bundle, which a
// customer's administrator would have copied there.
func startHostWithPlinth(t testing.TB, name string, opts ...lab.Option) *lab.Host {
	t.Helper()
	h := lab.Up(t, name, opts...)
	program, file := shippedFiles(t)
	h.Copy(program, binary)
	h.Copy(file, bundle)
	return h
}

// shipment is what the vendor ships; key is the file with the public key.
type shipment struct{ program, bundle, key string }

var prepareShipment = sync.OnceValues(buildShipment)

// shippedFiles returns the paths of the executable with the vendor's public key
// embedded, and of the signed bundle.
func shippedFiles(t testing.TB) (program, bundle string) {
	t.Helper()
	requireEnv(t, "PLINTH_E2E_BINARY")
	requireEnv(t, "PLINTH_E2E_BUNDLE")
	d, err := prepareShipment()
	if err != nil {
		t.Fatal(err)
	}
	return d.program, d.bundle
}

// buildShipment embeds the public key that `make bundle` writes beside the bundle. A
// bundle that was built without a key is signed first.
func buildShipment() (d shipment, err error) {
	dir := shipmentDir()
	d = shipment{program: filepath.Join(dir, "plinth"), bundle: os.Getenv("PLINTH_E2E_BUNDLE")}
	d.key = filepath.Join(filepath.Dir(d.bundle), "vendor.pub")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return d, err
	}
	if _, err := os.Stat(d.key); err != nil {
		if d.bundle, d.key, err = signBundle(d.bundle, dir); err != nil {
			return d, err
		}
	}
	return d, runLocal(os.Getenv("PLINTH_E2E_BINARY"), "bundle", "embed", "--verify-key", d.key, "--output-file", d.program)
}

// privateKey returns the file with the key that signed the shipped bundle.
func privateKey(d shipment) string {
	private := filepath.Join(filepath.Dir(d.key), "vendor.key")
	if _, err := os.Stat(private); err != nil {
		private = filepath.Join(filepath.Dir(d.key), "key")
	}
	return private
}

// signBundle writes a copy of an unsigned bundle that openssl signed with a new key.
func signBundle(unsigned, dir string) (bundle, key string, err error) {
	bundle, key = filepath.Join(dir, "bundle"), filepath.Join(dir, "vendor.pub")
	b, err := airgap.Open(context.Background(), unsigned)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = b.Close() }()
	script := `cd "$1"; openssl ecparam -name prime256v1 -genkey -noout -out key; openssl pkey -in key -pubout -out vendor.pub; openssl dgst -sha256 -sign key -out sig index`
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "index"), b.RawIndex(), 0o600), runLocal("bash", "-euc", script, "bash", dir)); err != nil {
		return "", "", err
	}
	sig, err := os.ReadFile(filepath.Join(dir, "sig"))
	if err != nil {
		return "", "", err
	}
	// The signature follows the three documents, each of which is a header and padded content.
	at := int64(0)
	for _, size := range []int64{int64(len(blob.LayoutFile)), int64(len(b.RawIndex())), int64(len(format.Checksum(b.RawIndex())))} {
		at += 512 + size + format.Padding(size)
	}
	head, err := format.TarHeader(format.SignatureEntry, int64(len(sig)))
	if err != nil {
		return "", "", err
	}
	in, err := os.Open(unsigned)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = in.Close() }()
	out, err := os.Create(bundle)
	if err != nil {
		return "", "", err
	}
	entry := append(append(head, sig...), make([]byte, format.Padding(int64(len(sig))))...)
	_, err = io.Copy(out, io.MultiReader(io.LimitReader(in, at), bytes.NewReader(entry), in))
	return bundle, key, errors.Join(err, out.Close())
}

// runLocal runs a command on this machine. An error contains its output.
func runLocal(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(name), err, out)
	}
	return nil
}

// TestMain removes the shipped files after all tests.
func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(shipmentDir())
	os.Exit(code)
}

// shipmentDir returns this run's folder for the shipped files.
func shipmentDir() string {
	return filepath.Join(cmp.Or(os.Getenv("LAB_DISKS"), os.TempDir()), fmt.Sprintf("plinth-e2e-%d", os.Getpid()))
}

// timeoutContext returns a context that ends after n minutes, in time to clean up.
func timeoutContext(t testing.TB, n int) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(n)*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// parallelTests contains the names of the tests that call runParallel.
var parallelTests sync.Map

// runParallel lets another test run beside t: a test with a cluster waits most of its time. -parallel limits how many.
func runParallel(t *testing.T) {
	t.Helper()
	parallelTests.Store(t.Name(), true)
	t.Parallel()
}

// diffBaselines returns the differences of two baselines. Hosts share the kernel settings that have no namespace, so
// they are left out if another test can run beside t.
func diffBaselines(t *testing.T, before, after lab.Baseline) []string {
	t.Helper()
	name, _, _ := strings.Cut(t.Name(), "/")
	if _, ok := parallelTests.Load(name); ok {
		before, after = before.Without(lab.MachineSysctls), after.Without(lab.MachineSysctls)
	}
	return lab.Diff(before, after)
}

// reply is the output of -o json: the events and the last line, which is the result.
type reply struct {
	Result struct {
		Changed    bool
		ConsoleURL string
		Password   string
		Plan       []struct{ Step, State, Why string }
		Retained   []string
		Unfinished *struct{ Verb, Step string }
		Installed  bool
		Versions   map[string]string
		Nodes      []struct {
			Name  string
			Ready bool
		}
		AddOns []struct {
			Name   string
			Ready  bool
			Reason string
		}
		Console    *struct{ URL, Version, Reason string }
		Warnings   []string
		Preflights struct {
			Results []struct{ ID, State, Found string }
		}
		NewHost  struct{ ConsoleURL string }
		Snapshot struct{ Name string }
	}
	Error *struct {
		Operation, Cause, Hint string
		Exit                   int
	}
	Events []event
}

type event struct {
	Step, State, Message string
	Bytes, Total         int64
}

// importedImages returns the images that the run reported as being imported. A run
// reports at most two a second.
func (r reply) importedImages() (refs []string) {
	for _, e := range r.Events {
		if ref, ok := strings.CutPrefix(e.Message, "importing "); ok && !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
	}
	return refs
}

// parseReply parses the JSON lines of one run.
func parseReply(t testing.TB, stdout string) (r reply) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	for _, line := range lines[:len(lines)-1] {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("not an event: %v: %s", err, line)
		}
		r.Events = append(r.Events, e)
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatalf("the last line is not a result: %v: %s", err, stdout)
	}
	return r
}

// runPlinth runs a command with -o json, which must exit with code.
func runPlinth(t testing.TB, ctx context.Context, h *lab.Host, code int, args ...string) reply {
	t.Helper()
	start := time.Now()
	stdout, stderr, got := h.Run(ctx, append([]string{binary, "-o", "json"}, args...)...)
	t.Logf("plinth %s: exit %d in %.1fs", strings.Join(args, " "), got, time.Since(start).Seconds())
	if got != code {
		t.Fatalf("plinth %s: exit %d, want %d\n%s\n%s", strings.Join(args, " "), got, code, lastLines(stdout, 40), lastLines(stderr, 40))
	}
	return parseReply(t, stdout)
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// tokenReply is the output of `token create -o json`.
type tokenReply struct {
	Result struct{ ID, Token, Fetch string }
}

// machineAddress returns the address of this machine for the hosts of the lab of h.
func machineAddress(h *lab.Host) string {
	ip := h.IP()
	return ip[:strings.LastIndex(ip, ".")] + ".254"
}

// createToken creates a token on a controller.
func createToken(t testing.TB, ctx context.Context, controller *lab.Host, args ...string) tokenReply {
	t.Helper()
	var m tokenReply
	out := controller.MustRun(ctx, append([]string{binary, "-o", "json", "token", "create"}, args...)...)
	if err := json.Unmarshal([]byte(out), &m); err != nil || m.Result.Token == "" {
		t.Fatalf("token create: %v: %s", err, out)
	}
	return m
}

// buildVariant builds a bundle from the Installer of the repository after the replacements, signed by the
// vendor of the shipped bundle.
func buildVariant(t testing.TB, payload string, release int, replace ...string) string {
	t.Helper()
	return buildSigned(t, requireEnv(t, "PLINTH_E2E_BINARY"), payload, release, writeInstaller(t, replace...))
}

// writeInstaller writes the Installer of the repository after the replacements and returns its path.
func writeInstaller(t testing.TB, replace ...string) string {
	t.Helper()
	raw, err := os.ReadFile("../installer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			t.Fatalf("installer.yaml does not contain %q", replace[i])
		}
		text = strings.ReplaceAll(text, replace[i], replace[i+1])
	}
	shippedFiles(t)
	dir, err := os.MkdirTemp(shipmentDir(), "variant")
	if err != nil {
		t.Fatal(err)
	}
	installer := filepath.Join(dir, "installer.yaml")
	if err := os.WriteFile(installer, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return installer
}

// buildSigned builds a bundle with a program beside an Installer, signed by the vendor of the shipped bundle. more are further
// arguments.
func buildSigned(t testing.TB, program, payload string, release int, installer string, more ...string) string {
	t.Helper()
	d, err := prepareShipment()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(filepath.Dir(installer), "bundle")
	args := []string{"bundle", "build", "--installer", installer, "--application", "testdata/application.yaml", "--source", payload,
		"--sign-key", privateKey(d), "--release", fmt.Sprint(release), "--output-file", out}
	if err := runLocal(program, append(args, more...)...); err != nil {
		t.Fatal(err)
	}
	return out
}
