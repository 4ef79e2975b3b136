//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// browseConsole opens the console in a browser, logs in with the password, waits until
// the next page contains expect, and returns its text. Screenshots are written to the
// folder in PLINTH_E2E_SCREENSHOTS, outside the checkout.
func browseConsole(t *testing.T, s consoleSession, name, expect string) (text string) {
	t.Helper()
	b := logIn(t, s, name, 5*time.Minute)
	defer b.end()
	b.waitForText(expect, time.Minute)
	b.screenshot("")
	text = b.text()
	t.Logf("%s shows: %.200q", name, text)
	return text
}

// consoleBrowser is a browser that has logged in to the console.
type consoleBrowser struct {
	t    *testing.T
	ctx  context.Context // of chromedp
	url  string          // of the console
	name string          // of the screenshots
	end  context.CancelFunc

	refused *refusedRequests
}

// refusedRequests are the requests of a page that had no answer, or an error as the answer.
type refusedRequests struct {
	mu   sync.Mutex
	list []string
}

func (r *refusedRequests) observe(event any) {
	text := ""
	switch e := event.(type) {
	case *network.EventResponseReceived:
		if e.Response.Status >= 400 {
			text = fmt.Sprintf("%d %s", e.Response.Status, e.Response.URL)
		}
	case *network.EventLoadingFailed:
		text = fmt.Sprintf("%s, %s", e.ErrorText, e.Type)
	}
	if text != "" {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.list = append(r.list, time.Now().Format("15:04:05 ")+text)
	}
}

func (r *refusedRequests) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.list, "\n")
}

// logIn opens the console in a browser and logs in with the password. The browser ends with the test, or after limit.
func logIn(t *testing.T, s consoleSession, name string, limit time.Duration) consoleBrowser {
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
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel) // ends the browser, too
	ctx, _ = chromedp.NewExecAllocator(ctx, options...)
	ctx, _ = chromedp.NewContext(ctx)

	b := consoleBrowser{t, ctx, s.url, name, cancel, &refusedRequests{}}
	chromedp.ListenTarget(ctx, b.refused.observe)
	if err := chromedp.Run(ctx, network.Enable()); err != nil { // starts the browser, which a shorter context would end
		t.Fatalf("cannot start the browser: %v", err)
	}
	b.run(chromedp.Navigate(s.url), chromedp.WaitVisible(`input[type="password"]`))
	b.screenshot("-login")
	b.run(chromedp.SendKeys(`input[type="password"]`, s.password+"\r"), chromedp.WaitNotPresent(`input[type="password"]`))
	return b
}

// run runs actions in the browser, which must succeed within 100 seconds.
func (b consoleBrowser) run(actions ...chromedp.Action) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 100*time.Second)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		b.screenshot("-failed")
		b.t.Fatalf("in the browser, at %s: %v\nthe page shows: %.3000q\nrequests without an answer:\n%s", b.url, err, b.text(), b.refused)
	}
}

// waitFor waits until a condition in JavaScript is true. A page that is left meanwhile does not end it.
func (b consoleBrowser) waitFor(what, condition string, within time.Duration) {
	b.t.Helper()
	var last error
	for end := time.Now().Add(within); time.Now().Before(end) && b.ctx.Err() == nil; time.Sleep(500 * time.Millisecond) {
		var met bool
		if last = chromedp.Run(b.ctx, chromedp.Evaluate("Boolean("+condition+")", &met)); last == nil && met {
			return
		}
	}
	b.screenshot("-failed")
	b.t.Fatalf("in the browser, at %s: no %s within %s (%v)\nthe page shows: %.3000q", b.url, what, within, last, b.text())
}

// waitForText waits until the page shows a text.
func (b consoleBrowser) waitForText(text string, within time.Duration) {
	b.t.Helper()
	b.waitFor(text, fmt.Sprintf("document.body.innerText.includes(%q)", text), within)
}

// open opens a page of the console, such as "/snapshots".
func (b consoleBrowser) open(page string) {
	b.t.Helper()
	b.run(chromedp.Navigate(b.url + page))
}

// click clicks the first visible element with a selector of CSS, or of XPath if it begins with "//".
func (b consoleBrowser) click(selector string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 3*time.Minute)
	defer cancel()
	err := chromedp.Run(ctx, chromedp.Click(selector, chromedp.BySearch, chromedp.NodeVisible))
	for err != nil && ctx.Err() == nil && strings.Contains(err.Error(), "node with given id") { // the page has drawn it again meanwhile
		err = chromedp.Run(ctx, chromedp.Click(selector, chromedp.BySearch, chromedp.NodeVisible))
	}
	if err != nil {
		b.screenshot("-failed")
		b.t.Fatalf("in the browser, at %s: cannot click %s: %v\nthe page shows: %.3000q", b.url, selector, err, b.text())
	}
}

// clickButton clicks the button with a text.
func (b consoleBrowser) clickButton(text string) {
	b.t.Helper()
	b.click(fmt.Sprintf("//button[normalize-space()=%q]", text))
}

// fill replaces the content of an input, as typing does.
func (b consoleBrowser) fill(selector, text string) {
	b.t.Helper()
	b.run(chromedp.WaitVisible(selector, chromedp.ByQuery), chromedp.Evaluate(fmt.Sprintf(`{const e = document.querySelector(%q);
		Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(e, %q);
		e.dispatchEvent(new Event("input", {bubbles: true}));}`, selector, text), nil))
}

// upload chooses a file of this machine in the file input with a selector of CSS, which need not be visible.
func (b consoleBrowser) upload(selector, file string) {
	b.t.Helper()
	b.run(chromedp.SetUploadFiles(selector, []string{file}, chromedp.ByQuery))
}

// eval returns the value of an expression in JavaScript, which is a text.
func (b consoleBrowser) eval(expression string) (value string) {
	b.t.Helper()
	b.run(chromedp.Evaluate(expression, &value))
	return value
}

// text returns the text of the page; "" if the browser does not answer.
func (b consoleBrowser) text() (text string) {
	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
	defer cancel()
	_ = chromedp.Run(ctx, chromedp.Text("body", &text, chromedp.ByQuery))
	return text
}

// call calls the API of the console with the cookies of the page, and returns the status and the body of the answer. body is
// JSON, or "" for none.
func (b consoleBrowser) call(method, path, body string) (status, answer string) {
	b.t.Helper()
	options := fmt.Sprintf(`method: %q, credentials: "include", headers: {"Content-Type": "application/json"}`, method)
	if body != "" {
		options += fmt.Sprintf(", body: %q", body)
	}
	b.run(chromedp.Evaluate(fmt.Sprintf(`{delete window.answer; fetch(%q, {%s}).then(
		async r => window.answer = r.status + " " + await r.text(), e => window.answer = "0 " + e); 0}`, "/api/v1"+path, options), nil),
		chromedp.Poll("window.answer", &answer, chromedp.WithPollingTimeout(time.Minute)))
	status, answer, _ = strings.Cut(answer, " ")
	return status, answer
}

// screenshot writes the page to the folder in PLINTH_E2E_SCREENSHOTS, if that is set.
func (b consoleBrowser) screenshot(suffix string) {
	b.t.Helper()
	dir := os.Getenv("PLINTH_E2E_SCREENSHOTS")
	if dir == "" {
		return
	}
	var png []byte
	err := chromedp.Run(b.ctx, chromedp.FullScreenshot(&png, 100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, b.name+suffix+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Error(err)
	}
}
