//go:build e2e

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
	"github.com/plinthdev/plinth/e2e/testapp"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/pki"
)

// forgedLicense has the right format but no valid signature. Only KOTS can verify
// the signature.
const forgedLicense = `apiVersion: kots.io/v1beta1
kind: License
metadata: {name: forged}
spec: {appSlug: my-app, channelID: abc, channelName: Stable, licenseID: abc, licenseSequence: 1, isAirgapSupported: true, signature: e30=}
`

// checkInstallWithApp installs the next release with an application. The host has the
// delta and the previous bundle.
func checkInstallWithApp(t *testing.T, ctx context.Context, h *lab.Host) {
	buildNextRelease(t, h)
	app := copyAppBundle(t, ctx, h, testapp.Release{VersionLabel: "1.0.0", Cursor: 1, TargetKOTS: "1.131.2"})
	h.MustRun(ctx, "sh", "-c", "cat >/srv/forged.yaml <<'END'\n"+forgedLicense+"END")
	refused := runPlinth(t, ctx, h, 7, "install", "--bundle", deltaFile, "--base", bundle, "--license", "/srv/forged.yaml", "--app-bundle", app, "--yes")
	if !strings.Contains(refused.Error.Cause, "signature is not valid") {
		t.Errorf("a forged license is refused in other words: %+v", refused.Error)
	}
	r := runPlinth(t, ctx, h, 0, "install", "--bundle", deltaFile, "--base", bundle, "--license", copyLicense(t, h), "--app-bundle", app, "--yes")
	if !r.Result.Changed || r.Result.Password == "" {
		t.Errorf("answer: %+v", r.Result)
	}
	out := h.MustRun(ctx, binary, "kubectl", "get", "deployment", "-A", "-o", "wide")
	if !strings.Contains(out, "hello") || !strings.Contains(out, ":5000/") {
		t.Errorf("the application's deployment is not there, or its image was not taken from the registry:\n%s", out)
	}
	if again := runPlinth(t, ctx, h, 0, "install", "--bundle", deltaFile, "--base", bundle, "--license", "/srv/license.yaml", "--app-bundle", app, "--yes"); again.Result.Changed {
		t.Error("the same application again changed something")
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, args := range []string{"get pods -A -o wide", "get events -n kotsadm", "logs -n kotsadm kotsadm-0 --all-containers --tail=30"} {
				out, errs, _ := h.Run(context.Background(), append([]string{binary, "kubectl"}, strings.Fields(args)...)...)
				t.Log(args+"\n", lastLines(out, 30), errs)
			}
		}
	})
	browseConsole(t, consoleSession{r.Result.ConsoleURL, r.Result.Password}, "dashboard", "Dashboard")
}

// checkLaterReleases verifies that the running KOTS treats updates as the gate
// predicts: it accepts a lower target, refuses a higher minimum, and announces a
// later target in the console's footer.
func checkLaterReleases(t *testing.T, ctx context.Context, h *lab.Host) {
	for _, tc := range []struct {
		name    string
		release testapp.Release
		allowed bool
	}{
		{"a lower target is allowed", testapp.Release{VersionLabel: "2.0.0", Cursor: 2, TargetKOTS: "1.75.0"}, true},
		{"a minimum above KOTS is refused", testapp.Release{VersionLabel: "3.0.0", Cursor: 3, MinKOTS: "1.200.0"}, false},
		{"a later target is allowed", testapp.Release{VersionLabel: "4.0.0", Cursor: 4, TargetKOTS: "1.140.0"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := h.ForTest(t)
			out, errs, code := h.Run(ctx, binary, "kots", "upstream", "upgrade", testapp.Slug, "--namespace", "kotsadm", "--airgap-bundle", copyAppBundle(t, ctx, h, tc.release), "--deploy")
			// The CLI exits with 0 in both cases; this is its message for a refusal.
			refused := strings.Contains(out+errs, "Unexpected response from the API: 500")
			if code != 0 || refused == tc.allowed {
				t.Errorf("KOTS: exit %d, refused %v\n%s\n%s", code, refused, lastLines(out, 10), lastLines(errs, 10))
			}
		})
	}
	password := runPlinth(t, ctx, h, 0, "console", "reset-password").Result.Password
	// The footer names the KOTS version that the newest release targets.
	browseConsole(t, consoleSession{"https://" + h.IP() + ":8800", password}, "footer", "v1.140.0 available")
}

// checkOwnCertificate sets the user's own certificate for the console.
func checkOwnCertificate(t *testing.T, ctx context.Context, h *lab.Host) {
	own, err := pki.NewSelfSigned([]string{h.IP()}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{"own.crt": own.Cert, "own.key": own.Key} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		h.Copy(filepath.Join(dir, name), "/srv/"+name)
	}
	runPlinth(t, ctx, h, 3, "console", "set-certificate", "--cert", "/srv/own.key", "--key", "/srv/own.crt")
	runPlinth(t, ctx, h, 0, "console", "set-certificate", "--cert", "/srv/own.crt", "--key", "/srv/own.key")
	if _, err := kots.GetConsoleHealth(ctx, "https://"+h.IP()+":8800", own.Cert); err != nil {
		t.Errorf("the console does not show it: %v", err)
	}
}
