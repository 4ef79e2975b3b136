//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// browseConsole opens the console in a browser, logs in with the password, waits until
// the next page contains expect, and returns its text. Screenshots are written to the
// folder in PLINTH_E2E_SCREENSHOTS, outside the checkout.
func browseConsole(t *testing.T, s consoleSession, name, expect string) (text string) {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is missing: run make test-e2e, which installs it")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox,
		chromedp.WindowSize(1400, 900), chromedp.WSURLReadTimeout(time.Minute),
		// The console's certificate is self-signed at first. The install has
		// verified the console with this certificate pinned.
		chromedp.IgnoreCertErrors,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-quic", true))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()

	var login, after []byte
	err = chromedp.Run(ctx,
		chromedp.Navigate(s.url),
		chromedp.WaitVisible(`input[type="password"]`),
		chromedp.FullScreenshot(&login, 100),
		chromedp.SendKeys(`input[type="password"]`, s.password+"\r"),
		chromedp.WaitNotPresent(`input[type="password"]`),
		chromedp.Poll(fmt.Sprintf("document.body.innerText.includes(%q)", expect), nil, chromedp.WithPollingTimeout(time.Minute)),
		chromedp.FullScreenshot(&after, 100),
		chromedp.Text("body", &text),
	)
	if err != nil {
		t.Fatalf("in the browser, at %s: %v", s.url, err)
	}
	if dir := os.Getenv("PLINTH_E2E_SCREENSHOTS"); dir != "" {
		for file, png := range map[string][]byte{name + "-login.png": login, name + ".png": after} {
			if err := os.WriteFile(filepath.Join(dir, file), png, 0o644); err != nil {
				t.Error(err)
			}
		}
	}
	t.Logf("%s shows: %.200q", name, text)
	return text
}
