// Package parts proves the rooms that work inside a cluster (addons, chart,
// kots and what is below it) on a real one, without the rest of Plinth. Run it on
// a controller, compiled: PLINTH_PARTS=DIR ./parts.test -test.v, where DIR holds
// the toy application's bundles (see bundles).
package parts

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/e2e/toyapp"
	"github.com/plinthdev/plinth/internal/chart"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kots/front"
	"github.com/plinthdev/plinth/internal/kots/pki"
	"github.com/plinthdev/plinth/internal/kots/registry"
	"github.com/plinthdev/plinth/internal/kots/release"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

const (
	adminConf = "/var/lib/k0s/pki/admin.conf"
	namespace = "kotsadm"
	version   = "1.131.2"
)

// cluster is the running cluster of this host.
type cluster struct {
	dir   string // PLINTH_PARTS
	kube  *kube.Client
	kots  *kots.KOTS
	front front.Front
	url   string
	hosts []string
	parts []addons.AddOn
}

func connect(t *testing.T) cluster {
	dir := os.Getenv("PLINTH_PARTS")
	if dir == "" {
		t.Skip("PLINTH_PARTS is not set: this test wants a running cluster")
	}
	conf, err := os.ReadFile(adminConf)
	check(t, err)
	c, err := kube.New(conf)
	check(t, err)
	nodes, err := c.Nodes(t.Context())
	check(t, err)
	in := &spec.Installer{}
	in.Spec.Network.ServiceCIDR = "10.96.0.0/12"
	in.Spec.LocalPathStorage = &spec.AddOn{Version: "0.0.30"}
	in.Spec.Kotsadm = &spec.Kotsadm{Version: version, Namespace: namespace, UIBindPort: 8800}
	in.Spec.Registry = &spec.AddOn{Version: "3.1.2"}
	parts, err := addons.Resolve(in, "/var/lib/plinth")
	check(t, err)
	return cluster{
		dir: dir, kube: c, parts: parts,
		kots: &kots.KOTS{
			Machine: host.Local("/"), Kube: c, CLI: kots.Binary, Kubeconfig: adminConf,
			Home: "/var/lib/plinth/kots", Namespace: namespace, Airgap: true,
		},
		front: front.Front{Kube: c, Namespace: namespace},
		url:   "https://" + nodes[0].Addresses[0] + ":8800",
		hosts: []string{nodes[0].Name, nodes[0].Addresses[0], "localhost", "127.0.0.1"},
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v\n→ %s", err, problem.Hint(err))
	}
}

// timed runs one part and logs how long it took and what it waited for.
func timed(t *testing.T, what string, do func(kube.Wait) error) {
	t.Helper()
	start := time.Now()
	err := do(kube.Wait{Timeout: 4 * time.Minute, Report: func(m string, _, _ int64) {
		t.Logf("%6.1fs   %s", time.Since(start).Seconds(), m)
	}})
	check(t, err)
	t.Logf("== %s: %.1f s", what, time.Since(start).Seconds())
}

func (c cluster) release(i int) chart.Release {
	a := c.parts[i]
	return chart.Release{Name: a.Release, Namespace: a.Namespace, Archive: a.Chart.Archive, Values: a.Values}
}

func TestConsoleComesUpAndIsLeftAlone(t *testing.T) {
	c, ctx := connect(t), t.Context()
	timed(t, "system pods", func(w kube.Wait) error {
		return c.kube.WaitPods(ctx, w, "kube-system", "coredns", "kube-proxy", "kube-router", "konnectivity-agent", "metrics-server")
	})
	for _, run := range []string{"first", "again"} {
		timed(t, run+": local-path-storage", func(w kube.Wait) error { return chart.Converge(ctx, c.kube, c.release(0), w) })
		timed(t, run+": console", func(w kube.Wait) error {
			return c.kots.InstallConsole(ctx, kots.Console{Slug: toyapp.Slug, Version: version, Application: toyapp.Release{}.Application()}, w)
		})
		timed(t, run+": certificate", func(kube.Wait) error { return c.front.EnsureCertificate(ctx, c.hosts, time.Now()) })
		timed(t, run+": console-proxy", func(w kube.Wait) error { return chart.Converge(ctx, c.kube, c.release(1), w) })
		timed(t, run+": answer", func(w kube.Wait) error {
			cert, selfSigned, err := c.front.Certificate(ctx)
			if err != nil || !selfSigned {
				return errors.Join(err, errors.New("no self-signed certificate"))
			}
			return front.WaitAnswer(ctx, c.url, cert, version, w)
		})
	}
	state, err := c.kots.State(ctx)
	check(t, err)
	if !state.Ready || state.Version != version {
		t.Errorf("state is %+v", state)
	}
	in, err := chart.Look(ctx, c.kube, namespace, "console-proxy")
	check(t, err)
	if in.Revision != 1 || in.Status != "deployed" {
		t.Errorf("proxy is %+v", in)
	}
}

// browser is a client that trusts anyone, and follows no redirect.
func browser() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		Timeout:       15 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (c cluster) login(t *testing.T, b *http.Client, password string) int {
	t.Helper()
	body, err := json.Marshal(map[string]string{"password": password})
	check(t, err)
	res, err := b.Post(c.url+"/api/v1/login", "application/json", bytes.NewReader(body))
	check(t, err)
	res.Body.Close()
	return res.StatusCode
}

func TestFrontSpeaksTLSRedirectsPlainHTTPAndTakesThePassword(t *testing.T) {
	c, ctx := connect(t), t.Context()
	plain := strings.Replace(c.url, "https:", "http:", 1)
	res, err := browser().Get(plain + "/app?x=1")
	check(t, err)
	res.Body.Close()
	if res.StatusCode != http.StatusTemporaryRedirect || res.Header.Get("Location") != c.url+"/app?x=1" {
		t.Errorf("plain HTTP: %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
	res, err = browser().Get(c.url + "/")
	check(t, err)
	page, err := io.ReadAll(res.Body)
	check(t, err)
	res.Body.Close()
	if res.StatusCode != http.StatusOK || !bytes.Contains(page, []byte("<script")) {
		t.Errorf("page: %d %s", res.StatusCode, page)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "frame-ancestors 'self'", "Strict-Transport-Security": ""} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
	for path, want := range map[string]int{"/license/v1/license": 403, "/api/v1/metadata": 200, "/api/v1/apps": 401} {
		res, err := browser().Get(c.url + path)
		check(t, err)
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, res.StatusCode, want)
		}
	}
	first, err := c.kots.ResetPassword(ctx)
	check(t, err)
	if got := c.login(t, browser(), first); got != http.StatusOK {
		t.Errorf("login: %d", got)
	}
	second, err := c.kots.ResetPassword(ctx)
	check(t, err)
	if got := c.login(t, browser(), first); got != http.StatusUnauthorized {
		t.Errorf("login with the password before: %d", got)
	}
	if got := c.login(t, browser(), second); got != http.StatusOK {
		t.Errorf("login with the new password: %d", got)
	}
}

type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestUsersCertificateIsServedAndKept(t *testing.T) {
	c, ctx := connect(t), t.Context()
	own, err := pki.SelfSigned(c.hosts, time.Now())
	check(t, err)
	other, err := pki.SelfSigned([]string{"elsewhere.example.com"}, time.Now())
	check(t, err)
	err = c.front.SetCertificate(ctx, other, c.hosts[1:2], kube.Wait{Timeout: time.Minute})
	if problem.ExitCode(err) != problem.ExitConfig {
		t.Errorf("a certificate for another host: %v", err)
	}
	timed(t, "set-certificate", func(w kube.Wait) error { return c.front.SetCertificate(ctx, own, c.hosts[1:2], w) })
	timed(t, "answer", func(w kube.Wait) error { return front.WaitAnswer(ctx, c.url, own.Cert, version, w) })
	check(t, c.front.EnsureCertificate(ctx, c.hosts, time.Now()))
	if cert, selfSigned, err := c.front.Certificate(ctx); err != nil || selfSigned || !bytes.Equal(cert, own.Cert) {
		t.Errorf("the user's certificate was replaced (%v)", err)
	}
}

// announced brings the registry up and tells node and KOTS of it.
func (c cluster) announced(t *testing.T) registry.Registry {
	t.Helper()
	ctx := t.Context()
	ip, _ := c.parts[2].Values["clusterIP"].(string)
	reg := registry.Registry{Kube: c.kube, Namespace: c.parts[2].Namespace, IP: ip}
	timed(t, "registry: secrets", func(kube.Wait) error { return reg.Prepare(ctx, time.Now()) })
	files, err := reg.Trust(ctx)
	check(t, err)
	for path, content := range files {
		check(t, host.Local("/").Write(path, bytes.NewReader(content), 0o644))
	}
	timed(t, "registry: chart", func(w kube.Wait) error { return chart.Converge(ctx, c.kube, c.release(2), w) })
	check(t, reg.Announce(ctx))
	return reg
}

func TestForgedLicenseIsRefusedInPlainWordsAndSoon(t *testing.T) {
	c := connect(t)
	c.announced(t)
	forged := filepath.Join(t.TempDir(), "license.yaml")
	check(t, os.WriteFile(forged, []byte(`apiVersion: kots.io/v1beta1
kind: License
metadata: {name: forged}
spec: {appSlug: my-app, channelID: abc, channelName: Stable, licenseID: abc, licenseSequence: 1, isAirgapSupported: true, signature: e30=}
`), 0o600))
	start := time.Now()
	err := c.kots.InstallApp(t.Context(), kots.App{Slug: "my-app", License: forged, Bundle: filepath.Join(c.dir, "first.airgap")}, kube.Wait{Timeout: 3 * time.Minute})
	if problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), "signature is not valid") {
		t.Errorf("got %v", err)
	}
	t.Logf("== refused after %.1f s: %v", time.Since(start).Seconds(), err)
}

func TestApplicationIsInstalledFromItsBundle(t *testing.T) {
	c, ctx := connect(t), t.Context()
	reg := c.announced(t)
	app := c.app(t, "first.airgap")
	timed(t, "application", func(w kube.Wait) error { return c.kots.InstallApp(ctx, app, w) })
	timed(t, "application again", func(w kube.Wait) error { return c.kots.InstallApp(ctx, app, w) })
	obj, err := c.kube.Get(ctx, kube.Object{APIVersion: "apps/v1", Kind: "Deployment", Namespace: namespace, Name: "hello"})
	check(t, err)
	if text, _ := obj.MarshalJSON(); !bytes.Contains(text, []byte(`"image":"`+reg.IP+`:5000/`)) {
		t.Errorf("the image was not rewritten to the registry: %s", text)
	}
}

func (c cluster) app(t *testing.T, bundle string) kots.App {
	t.Helper()
	license := filepath.Join(c.dir, "license.yaml")
	raw, err := os.ReadFile(license)
	check(t, err)
	l, err := release.ReadLicense(raw, time.Now())
	check(t, err)
	b, err := release.ReadBundle(filepath.Join(c.dir, bundle))
	check(t, err)
	check(t, release.Check(l, &b, true))
	return kots.App{Slug: l.Slug, License: license, Bundle: filepath.Join(c.dir, bundle)}
}

func TestBigUploadsPassThroughTheFront(t *testing.T) {
	c := connect(t)
	password, err := c.kots.ResetPassword(t.Context())
	check(t, err)
	b := browser()
	b.Timeout = 5 * time.Minute
	b.Jar, err = cookiejar.New(nil)
	check(t, err)
	if got := c.login(t, b, password); got != http.StatusOK {
		t.Fatalf("login: %d", got)
	}
	const size = 300 << 20
	body, w := io.Pipe()
	form := multipart.NewWriter(w)
	go func() {
		for _, f := range []string{"TotalChunks=1", "ChunkNumber=1", "Identifier=big", fmt.Sprint("TotalSize=", size), fmt.Sprint("ChunkSize=", size)} {
			k, v, _ := strings.Cut(f, "=")
			_ = form.WriteField("resumable"+k, v)
		}
		part, _ := form.CreateFormFile("file", "big.airgap")
		_, err := io.Copy(part, io.LimitReader(zeroes{}, size))
		w.CloseWithError(errors.Join(err, form.Close()))
	}()
	start := time.Now()
	res, err := b.Post(c.url+"/api/v1/app/"+toyapp.Slug+"/airgap/chunk", form.FormDataContentType(), body)
	check(t, err)
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("300 MiB: %s", res.Status)
	}
	t.Logf("== 300 MiB in %.1f s", time.Since(start).Seconds())
}

// TestKilledConsoleInstallIsFinished runs on a cluster without a console.
func TestKilledConsoleInstallIsFinished(t *testing.T) {
	c := connect(t)
	if os.Getenv("PLINTH_PARTS_KILL") == "" {
		t.Skip("PLINTH_PARTS_KILL is not set")
	}
	want := kots.Console{Slug: toyapp.Slug, Version: version, Application: toyapp.Release{}.Application()}
	for _, after := range []time.Duration{2 * time.Second, 6 * time.Second, 15 * time.Second} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		err := c.kots.InstallConsole(ctx, want, kube.Wait{Timeout: 4 * time.Minute})
		cancel()
		if err == nil {
			t.Fatalf("was done after %s", after)
		}
		t.Logf("ended after %s: %v", after, err)
	}
	timed(t, "console", func(w kube.Wait) error { return c.kots.InstallConsole(t.Context(), want, w) })
	password, err := c.kots.ResetPassword(t.Context())
	check(t, err)
	if password == "" {
		t.Error("no password")
	}
}
