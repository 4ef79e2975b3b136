//go:build e2e

package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
	"github.com/plinthdev/plinth/e2e/testapp"
)

// promisesHost is a host with the console and the application of a customer who has two licenses.
type promisesHost struct {
	*lab.Host
	console consoleSession
}

// strictLabel is the label of nodes that the first release of the application requires.
const strictLabel = "hello.example.com/database"

// pageLimit is for a page of the console, and for what it starts, also on a machine that is busy with other clusters.
const pageLimit = 4 * time.Minute

// promisedRelease returns a release of the application.
func promisedRelease(version string, cursor int) testapp.Release {
	return testapp.Release{VersionLabel: version, Cursor: cursor, TargetKOTS: newKOTSVersion, SupportBundle: true, Customer: &testapp.RenewedCustomer}
}

// appPage is the page of the application in the console, and its path in the API.
func appPage(rest string) string { return "/app/" + testapp.RenewedCustomer.Slug + rest }

// TestPromises_OfKOTS shows what KOTS promises to vendors and users on a cluster of Plinth without a network, in a browser and
// with the API: as far as it can be shown without the platform of the vendor.
func TestPromises_OfKOTS(t *testing.T) {
	if testing.Short() {
		t.Skip("it installs a cluster of its own")
	}
	runParallel(t)
	ctx := timeoutContext(t, 60)
	p := &promisesHost{Host: startHostWithPlinth(t, "console")}
	t.Cleanup(func() {
		if t.Failed() {
			for _, args := range []string{"get pods -A -o wide", "logs -n kotsadm kotsadm-0 --tail=60"} {
				out, errs, _ := p.Run(ctx, append([]string{binary, "kubectl"}, strings.Fields(args)...)...)
				t.Log(args+"\n", out, errs)
			}
		}
	})
	if !t.Run("a strict preflight blocks the deployment until it passes", func(t *testing.T) { p.checkStrictPreflight(t, ctx) }) {
		return
	}
	t.Run("a license is changed only as KOTS allows", func(t *testing.T) { p.checkLicenseChange(t, ctx) })
	t.Run("a newer license is uploaded as a file", func(t *testing.T) { p.checkLicenseSync(t, ctx) })
	t.Run("a required release cannot be skipped", func(t *testing.T) { p.checkRequiredRelease(t, ctx) })
	t.Run("a release for a later KOTS is not taken", func(t *testing.T) { p.checkMinimumKOTS(t, ctx) })
	t.Run("telemetry is kept in Secrets", func(t *testing.T) { p.checkTelemetry(t, ctx) })
	t.Run("the page Troubleshoot collects and analyzes", func(t *testing.T) { p.checkTroubleshoot(t, ctx) })
}

// logIn opens the console in a browser.
func (p *promisesHost) logIn(t *testing.T, name string) consoleBrowser {
	t.Helper()
	b := logIn(t, p.console, name, 15*time.Minute)
	b.waitFor("page after the login", `location.pathname != "/" && location.pathname != "/secure-console"`, pageLimit)
	return b
}

// kubectl runs a command in the cluster, which must succeed.
func (p *promisesHost) kubectl(t *testing.T, ctx context.Context, args ...string) string {
	t.Helper()
	return p.ForTest(t).MustRun(ctx, append([]string{binary, "kubectl"}, args...)...)
}

// waitForShownText waits until the ConfigMap of the application shows a release, and the text in its license.
func (p *promisesHost) waitForShownText(t *testing.T, ctx context.Context, want string) {
	t.Helper()
	waitForOutput(t, ctx, p.ForTest(t), pageLimit, want, func(out string) bool { return out == want },
		binary, "kubectl", "get", "configmap", "hello", "-n", "kotsadm", "-o", "jsonpath={.data.release} {.data.text}")
}

// checkStrictPreflight installs the application on a node without the label that its strict preflight requires, and gives the
// node the label.
func (p *promisesHost) checkStrictPreflight(t *testing.T, ctx context.Context) {
	h := p.ForTest(t)
	r := promisedRelease("1.0.0", 1)
	r.StrictLabel = strictLabel
	h.Copy(writeLicense(t, func() ([]byte, error) { return testapp.RenewedCustomer.License(0) }), "/srv/license.yaml")
	args := []string{"install", "--bundle", bundle, "--license", "/srv/license.yaml", "--app-bundle", copyAppBundle(t, ctx, h, r), "--yes"}
	const cause = "the application's own preflight checks fail or warn, so it was not deployed"
	if refused := runPlinth(t, ctx, h, 7, args...); !strings.Contains(refused.Error.Cause, cause) || !strings.Contains(refused.Error.Cause, strictLabel) {
		t.Errorf("%+v", refused.Error)
	}
	p.console = consoleSession{"https://" + h.IP() + ":8800", runPlinth(t, ctx, h, 0, "console", "reset-password").Result.Password}

	b := p.logIn(t, "strict-preflight")
	b.open("/" + testapp.RenewedCustomer.Slug + "/preflight")
	b.waitForText("No node has the label "+strictLabel, pageLimit)
	b.waitFor("button to deploy that is disabled", `[...document.querySelectorAll("button")].find(e => e.innerText.trim() == "Deploy")?.disabled`, pageLimit)
	b.screenshot("")
	for _, ignoring := range []string{`{}`, `{"isSkipPreflights":true}`, `{"continueWithFailedPreflights":true}`} {
		status, answer := b.call("POST", appPage("/sequence/0/deploy"), ignoring)
		if status != "500" || !strings.Contains(answer, "Unable to deploy as preflight check's strict analyzer has failed") {
			t.Errorf("deploy with %s: %s %s", ignoring, status, answer)
		}
	}
	if out := p.kubectl(t, ctx, "get", "deployment", "hello", "-n", "kotsadm", "--ignore-not-found", "-o", "name"); out != "" {
		t.Errorf("the application was deployed: %s", out)
	}
	if again := runPlinth(t, ctx, h, 7, args...); !strings.Contains(again.Error.Cause, "has deployed no version of it") {
		t.Errorf("a second install: %+v", again.Error)
	}

	p.kubectl(t, ctx, "label", "nodes", "--all", strictLabel+"=true")
	b.open("/" + testapp.RenewedCustomer.Slug + "/preflight")
	b.click(`[data-testid="preflight-results-rerun-button"]`)
	p.waitForShownText(t, ctx, "1.0.0 require me") // KOTS deploys a first release by itself as soon as its preflights pass
	if r := runPlinth(t, ctx, h, 0, args...); r.Result.ConsoleURL != p.console.url || r.Result.Password != "" {
		t.Errorf("the install ends with %+v; the password was set before", r.Result)
	}
}

// checkLicenseChange verifies that the console refuses the license of another customer, and why. It shows no change that KOTS
// accepts: only licenses of the type community can be changed, and KOTS's tests have none that allows air-gapped installs.
func (p *promisesHost) checkLicenseChange(t *testing.T, ctx context.Context) {
	b := p.logIn(t, "license-change")
	b.open(appPage("/license"))
	b.waitFor("license", `document.querySelector('[data-testid="license-type"]')?.innerText.includes("Prod license")`, pageLimit)
	if strings.Contains(b.text(), "Change license") { // only licenses of the type community can be changed
		t.Errorf("the page offers to change the license: %.1000q", b.text())
	}
	before := p.license(b)
	for _, tc := range []struct {
		name, path, cause string
		license           func() ([]byte, error)
	}{
		{"change to a license for networks", "/change-license", "New license does not support airgapped installations", testapp.CommunityLicense},
		{"change of a license that is not of the type community", "/change-license", "Changing from a non-community license is not supported", testapp.License},
		{"change to a forged license", "/change-license", "unexpected end of JSON input", func() ([]byte, error) { return []byte(forgedLicense), nil }},
		{"upload of another customer's license", "/license", "failed to sync license", testapp.License},
		{"upload of a forged license", "/license", "failed to sync license", func() ([]byte, error) { return []byte(forgedLicense), nil }},
	} {
		data, err := tc.license()
		if err != nil {
			t.Fatal(err)
		}
		body, err := json.Marshal(map[string]string{"licenseData": string(data)})
		if err != nil {
			t.Fatal(err)
		}
		if status, answer := b.call("PUT", appPage(tc.path), string(body)); status != "500" || !strings.Contains(answer, tc.cause) {
			t.Errorf("%s: %s %s", tc.name, status, answer)
		}
	}
	b.upload(`[data-testid="license-upload-dropzone"] input`, writeLicense(t, testapp.License))
	b.waitForText("Licenses do not match", pageLimit)
	if after := p.license(b); after != before {
		t.Errorf("the console has license %+v, and had %+v", after, before)
	}
}

// consoleLicense is the license of the application, as the API of the console returns it.
type consoleLicense struct {
	LicenseSequence int
	LicenseType     string
	LastSyncedAt    string
}

// license returns the license of the application.
func (p *promisesHost) license(b consoleBrowser) consoleLicense {
	b.t.Helper()
	var r struct{ License consoleLicense }
	b.get(appPage("/license"), &r)
	return r.License
}

// get reads what the API of the console answers, which must be JSON.
func (b consoleBrowser) get(path string, into any) {
	b.t.Helper()
	status, answer := b.call("GET", path, "")
	if status != "200" {
		b.t.Fatalf("GET %s: %s %s", path, status, answer)
	}
	if err := json.Unmarshal([]byte(answer), into); err != nil {
		b.t.Fatalf("GET %s: %v: %s", path, err, answer)
	}
}

// checkLicenseSync uploads the license in which the vendor has changed a field, and deploys the version with it.
func (p *promisesHost) checkLicenseSync(t *testing.T, ctx context.Context) {
	b := p.logIn(t, "license-sync")
	b.open(appPage("/license"))
	renewed := writeLicense(t, func() ([]byte, error) { return testapp.RenewedCustomer.License(1) })
	b.upload(`[data-testid="license-upload-dropzone"] input`, renewed)
	b.waitFor("new version", `document.querySelector('[data-testid="license-next-step-modal"]')`, pageLimit)
	b.screenshot("")
	b.clickButton("Go to new version")
	if l := p.license(b); l.LicenseSequence != 9 {
		t.Errorf("the console has %+v", l)
	}
	if v := p.versions(b)[0]; v.Source != "License Change" || v.VersionLabel != "1.0.0" {
		t.Errorf("the new version is %+v", v)
	}
	p.deploy(b, "1.0.0")
	p.waitForShownText(t, ctx, "1.0.0 require me required")
	b.open(appPage("/license"))
	b.upload(`[data-testid="license-upload-dropzone"] input`, renewed)
	b.waitForText("License is already up to date", pageLimit)
}

// appVersion is a version of the application in the console.
type appVersion struct {
	Sequence           int
	VersionLabel       string
	Source             string
	Status             string
	IsRequired         bool
	IsDeployable       bool
	NonDeployableCause string
}

// versions returns all versions of the application, the latest first.
func (p *promisesHost) versions(b consoleBrowser) []appVersion {
	b.t.Helper()
	var r struct{ VersionHistory []appVersion }
	b.get(appPage("/versions?currentPage=0&pageSize=100&pinLatestDeployable=false"), &r)
	if len(r.VersionHistory) == 0 {
		b.t.Fatal("the console has no version")
	}
	return r.VersionHistory
}

// uploadUpdate chooses a release of the application on the page with its versions.
func (p *promisesHost) uploadUpdate(b consoleBrowser, ctx context.Context, r testapp.Release) {
	b.t.Helper()
	b.open(appPage("/version-history"))
	b.waitForText("Currently deployed version", pageLimit)
	b.upload(`[data-testid="airgap-bundle-drop-zone"] input`, buildAppBundle(b.t, ctx, p.ForTest(b.t), r))
}

// waitForVersion waits until the console has a version of the application, and its preflights are done.
func (p *promisesHost) waitForVersion(b consoleBrowser, label string) appVersion {
	b.t.Helper()
	b.waitFor("version "+label, fmt.Sprintf(`[...document.querySelectorAll('[data-testid="all-versions-card"] [data-testid="version-label"]')]
		.some(e => e.innerText.includes(%q))`, label), pageLimit)
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Second) {
		all := p.versions(b)
		i := slices.IndexFunc(all, func(v appVersion) bool { return v.VersionLabel == label })
		if i >= 0 && all[i].Status != "pending_preflight" {
			return all[i]
		}
		if time.Now().After(end) {
			b.t.Fatalf("the console has no version %s whose preflights are done: %+v", label, all)
		}
	}
}

// actionButton returns the XPath of the button that deploys the latest version of the application with a label.
func actionButton(label string) string {
	return fmt.Sprintf(`(//*[@data-testid="all-versions-card"]//*[starts-with(@data-testid, "version-history-row-")]
		[.//*[@data-testid="version-label"][contains(., %q)]])[1]//*[@data-testid="btn-version-action"]`, label)
}

// deploy deploys the latest version of the application with a label on the page with its versions.
func (p *promisesHost) deploy(b consoleBrowser, label string) {
	b.t.Helper()
	b.open(appPage("/version-history"))
	p.waitForVersion(b, label)
	b.click(actionButton(label))
	b.clickButton("Yes, deploy")
}

// checkRequiredRelease verifies that a release cannot be uploaded without the required one before it, nor deployed before it.
func (p *promisesHost) checkRequiredRelease(t *testing.T, ctx context.Context) {
	required, later := promisedRelease("2.0.0", 2), promisedRelease("3.0.0", 3)
	required.Required, later.Earlier = true, []testapp.Release{required}
	const cause = "This version cannot be deployed because version 2.0.0 is required and must be deployed first."

	b := p.logIn(t, "required-release")
	before := p.versions(b)
	p.uploadUpdate(b, ctx, later)
	b.waitForText(cause, pageLimit)
	b.screenshot("-upload")
	// The CLI prints the cause and exits with 0.
	out, errs, _ := p.ForTest(t).Run(ctx, binary, "kots", "upstream", "upgrade", testapp.RenewedCustomer.Slug, "--namespace", "kotsadm",
		"--airgap-bundle", copyAppBundle(t, ctx, p.ForTest(t), later), "--deploy")
	if !strings.Contains(out+errs, cause) {
		t.Errorf("the kots CLI: %s%s", out, errs)
	}
	if after := p.versions(b); !slices.Equal(after, before) {
		t.Errorf("the console has versions %+v, and had %+v", after, before)
	}

	p.uploadUpdate(b, ctx, required)
	if v := p.waitForVersion(b, "2.0.0"); !v.IsRequired || !v.IsDeployable {
		t.Errorf("%+v", v)
	}
	p.uploadUpdate(b, ctx, later)
	v := p.waitForVersion(b, "3.0.0")
	if v.IsDeployable || v.NonDeployableCause != cause {
		t.Errorf("%+v", v)
	}
	b.open(appPage("/version-history"))
	b.waitFor("button that is disabled", fmt.Sprintf(`document.evaluate(%q, document, null, XPathResult.FIRST_ORDERED_NODE_TYPE).singleNodeValue?.disabled`,
		actionButton("3.0.0")), pageLimit)
	b.screenshot("-deploy")
	if status, answer := b.call("POST", appPage(fmt.Sprintf("/sequence/%d/deploy", v.Sequence)), `{}`); status != "500" || !strings.Contains(answer, cause) {
		t.Errorf("%s %s", status, answer)
	}
	for _, label := range []string{"2.0.0", "3.0.0"} {
		p.deploy(b, label)
		p.waitForShownText(t, ctx, label+" require me required")
	}
}

// checkMinimumKOTS verifies that the console tells which version of KOTS a release requires, and keeps nothing of it. The status
// "pending download" is for releases that KOTS gets from the vendor's platform: KOTS without a network refuses the file.
func (p *promisesHost) checkMinimumKOTS(t *testing.T, ctx context.Context) {
	b := p.logIn(t, "minimum-kots")
	before := p.versions(b)
	r := promisedRelease("4.0.0", 4)
	r.MinKOTS, r.TargetKOTS = "1.200.0", ""
	p.uploadUpdate(b, ctx, r)
	b.waitForText("This version of Toy Application requires a version of KOTS that is different than what you currently have installed. "+
		"Upgrade KOTS to version 1.200.0", pageLimit)
	b.screenshot("")
	if after := p.versions(b); !slices.Equal(after, before) {
		t.Errorf("the console has versions %+v, and had %+v", after, before)
	}
	if i := slices.IndexFunc(before, func(v appVersion) bool { return v.Status == "pending_download" }); i >= 0 {
		t.Errorf("%+v", before[i])
	}
}

// reportEvent is an event in a report that KOTS keeps for the vendor.
type reportEvent struct {
	LicenseID      string `json:"license_id"`
	UserAgent      string `json:"user_agent"`
	K8sVersion     string `json:"k8s_version"`
	AppStatus      string `json:"app_status"`
	Cursor         int    `json:"downstream_channel_sequence"`
	PreflightState string `json:"preflight_status"`
}

// checkTelemetry verifies that KOTS keeps its reports in Secrets, from which support bundles get them (pkg/reporting,
// pkg/supportbundle/spec.go), and refuses metrics of the application.
func (p *promisesHost) checkTelemetry(t *testing.T, ctx context.Context) {
	instance := p.report(t, ctx, "instance")
	last := instance[len(instance)-1]
	t.Logf("%d events, the last is %+v", len(instance), last)
	if last.LicenseID == "" || last.UserAgent != "KOTS/v"+newKOTSVersion || !strings.HasPrefix(last.K8sVersion, "v1.") {
		t.Errorf("the last event is %+v", last)
	}
	for cursor := 1; cursor <= 3; cursor++ {
		if !slices.ContainsFunc(instance, func(e reportEvent) bool { return e.Cursor == cursor && e.AppStatus == "ready" }) {
			t.Errorf("no event tells that release %d was ready: %+v", cursor, instance)
		}
	}
	if all := p.report(t, ctx, "preflight"); !slices.ContainsFunc(all, func(e reportEvent) bool { return e.PreflightState == "pass" && e.AppStatus == "ready" }) {
		t.Errorf("no event tells of the preflight that passed: %+v", all)
	}
	_, errs, code := p.ForTest(t).Run(ctx, binary, "kubectl", "exec", "-n", "kotsadm", "deployment/hello", "--", "wget", "-O-",
		"--header", "Content-Type: application/json", "--post-data", `{"data":{"users":1}}`, "http://kotsadm:3000/api/v1/app/custom-metrics")
	if code == 0 || !strings.Contains(errs, "403 Forbidden") {
		t.Errorf("metrics of the application: exit %d, %s", code, errs)
	}
}

// report returns the events of a report of KOTS, the oldest first.
func (p *promisesHost) report(t *testing.T, ctx context.Context, kind string) []reportEvent {
	t.Helper()
	text := p.kubectl(t, ctx, "get", "secret", "-n", "kotsadm", "kotsadm-"+testapp.RenewedCustomer.Slug+"-"+kind+"-report",
		"-o", "go-template={{.data.report | base64decode}}")
	return parseReport(t, text)
}

// parseReport parses a report as KOTS stores it: JSON, packed with gzip, in base64.
func parseReport(t *testing.T, text string) []reportEvent {
	t.Helper()
	packed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	var r struct{ Events []reportEvent }
	if err := json.NewDecoder(zip).Decode(&r); err != nil || len(r.Events) == 0 {
		t.Fatalf("%d events: %v", len(r.Events), err)
	}
	return r.Events
}

// checkTroubleshoot has the console create and analyze a support bundle with the specs of KOTS, of the application and of Plinth.
// KOTS stores the bundle with the status "failed", which the page ignores: it counts its own collector of cluster resources and
// that of another spec as two, and then runs one for both (pkg/supportbundle/execute.go, v1.131.2).
func (p *promisesHost) checkTroubleshoot(t *testing.T, ctx context.Context) {
	b := p.logIn(t, "troubleshoot")
	b.open(appPage("/troubleshoot"))
	b.click(`[data-testid="btn-analyze-app"]`)
	b.waitFor("progress", `location.pathname.includes("/troubleshoot/analyze/")`, pageLimit)
	b.waitFor("analysis", `document.querySelector('[data-testid="support-bundle-analysis-bundle-insights"]')?.
		innerText.includes("Only show errors")`, 10*time.Minute)
	b.screenshot("")
	insights := b.text()
	for what, want := range map[string]string{
		"the application": "The toy application runs.",
		"Plinth":          "The proxy in front of the console is ready.",
		"Plinth's nodes":  "No node lacks disk space, memory or room for processes.",
		"KOTS":            "Default storage class found",
	} {
		if !strings.Contains(insights, want) {
			t.Errorf("the analysis has nothing of %s: %q is missing in %q", what, want, insights)
		}
	}

	id, tree := p.latestBundle(b)
	for _, want := range []string{
		"cluster-resources/pods/logs/kube-system/coredns-", "certificates/certificates.json", "helm/registry.json", // of Plinth's spec
		"kots/admin_console/license.yaml", "analysis.json", "version.yaml",
	} {
		if !strings.Contains(tree, `"path":"`+want) {
			t.Errorf("%s is missing in the bundle: %.3000s", want, tree)
		}
	}
	reports := "secrets/kotsadm/kotsadm-" + testapp.RenewedCustomer.Slug + "-"
	files := p.bundleFiles(b, id, "configmaps/kube-system/plinth-nodes.json", "configmaps/kotsadm/plinth-application.json", "configmaps/kotsadm/hello.json",
		reports+"instance-report/report.json", reports+"preflight-report/report.json")
	for name, want := range map[string]string{
		"configmaps/kube-system/plinth-nodes.json":   p.Name,
		"configmaps/kotsadm/plinth-application.json": `"configMapExists": true`,
		"configmaps/kotsadm/hello.json":              "require me required",
		reports + "instance-report/report.json":      `"secretExists": true`,
		reports + "preflight-report/report.json":     `"secretExists": true`,
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s has no %q: %.1000s", name, want, files[name])
		}
	}
	var report struct{ Value string }
	if err := json.Unmarshal([]byte(files[reports+"instance-report/report.json"]), &report); err != nil || len(parseReport(t, report.Value)) < 3 {
		t.Errorf("the report in the bundle cannot be read: %v %.1000s", err, files[reports+"instance-report/report.json"])
	}

	b.click(`[data-testid="support-bundle-analysis-file-inspector-tab"]`)
	b.click(`[data-testid="configmaps"] + label`)
	b.click(`[data-testid="configmaps/kube-system"] + label`)
	b.click(`[data-testid="configmaps/kube-system/plinth-nodes.json"]`)
	b.waitFor("content", fmt.Sprintf(`document.querySelector('[data-testid="support-bundle-analysis-file-inspector-editor"]')?.
		innerText.includes(%q)`, p.Name), pageLimit)
	b.screenshot("-files")
}

// latestBundle returns the id of the latest support bundle of the console, and its files as JSON.
func (p *promisesHost) latestBundle(b consoleBrowser) (id, tree string) {
	b.t.Helper()
	var list struct{ SupportBundles []struct{ ID string } }
	b.get("/troubleshoot"+appPage("/supportbundles"), &list)
	if len(list.SupportBundles) == 0 {
		b.t.Fatal("the console lists no support bundle")
	}
	var one struct{ TreeIndex string }
	b.get("/troubleshoot/supportbundle/"+list.SupportBundles[0].ID, &one)
	return list.SupportBundles[0].ID, one.TreeIndex
}

// bundleFiles returns the content of files in a support bundle of the console.
func (p *promisesHost) bundleFiles(b consoleBrowser, id string, names ...string) map[string]string {
	b.t.Helper()
	var r struct{ Files map[string][]byte }
	b.get("/troubleshoot/supportbundle/"+id+"/files?"+url.Values{"filename": names}.Encode(), &r)
	files := map[string]string{}
	for name, content := range r.Files {
		files[name] = string(content)
	}
	return files
}
