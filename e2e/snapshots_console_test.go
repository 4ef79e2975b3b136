//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
	"github.com/plinthdev/plinth/e2e/testapp"
)

// snapshotCluster is a host with Velero and an application that has data in a volume.
type snapshotCluster struct {
	*lab.Host
	bundle  string // path on the host
	console consoleSession
}

// TestSnapshots_InTheConsole takes, schedules and restores snapshots of the console and of an application with data in a
// volume, as a user does: in a browser, and with the kots CLI.
func TestSnapshots_InTheConsole(t *testing.T) {
	if testing.Short() {
		t.Skip("it installs a cluster of its own")
	}
	runParallel(t)
	ctx := timeoutContext(t, 70)
	c := installForSnapshots(t, ctx)
	t.Cleanup(func() {
		if t.Failed() {
			for _, args := range []string{"get backups,restores,podvolumebackups,podvolumerestores -n velero -o wide", "get pods -A -o wide",
				"logs -n kotsadm kotsadm-0 --tail=60", "logs -n velero deployment/velero --tail=60"} {
				out, errs, _ := c.Run(ctx, append([]string{binary, "kubectl"}, strings.Fields(args)...)...)
				t.Log(args+"\n", out, errs)
			}
		}
	})
	t.Run("an application without a Backup has no snapshots", func(t *testing.T) { c.checkWithoutBackup(t, ctx) })
	if !t.Run("an update brings a volume and a Backup", func(t *testing.T) { c.deployWithVolume(t, ctx) }) {
		return
	}
	t.Run("the page of settings has the store", func(t *testing.T) { c.checkSettingsPage(t, ctx) })
	t.Run("a snapshot and its restore in the browser", func(t *testing.T) { c.checkInBrowser(t, ctx) })
	t.Run("a snapshot and its restore by the CLI", func(t *testing.T) { c.checkByCLI(t, ctx) })
	t.Run("a schedule and how long snapshots are kept", func(t *testing.T) { c.checkSchedule(t, ctx) })
	t.Run("expired snapshots are deleted", func(t *testing.T) { c.checkExpiry(t, ctx) })
	t.Run("a second install changes nothing", func(t *testing.T) {
		if r := runPlinth(t, ctx, c.ForTest(t), 0, "install", "--bundle", c.bundle, "--yes"); r.Result.Changed {
			t.Errorf("%+v", r.Result)
		}
	})
}

// installForSnapshots installs a cluster with Velero, its store in a folder of the host, and an application without a Backup.
func installForSnapshots(t *testing.T, ctx context.Context) snapshotCluster {
	t.Helper()
	c := snapshotCluster{Host: startHostWithPlinth(t, "console"), bundle: "/srv/snapshots.bundle"}
	c.Copy(buildWithVelero(t), c.bundle)
	app := copyAppBundle(t, ctx, c.Host, testapp.Release{VersionLabel: "1.0.0", Cursor: 1, TargetKOTS: newKOTSVersion})
	r := runPlinth(t, ctx, c.Host, 0, "install", "--bundle", c.bundle, "--license", copyLicense(t, c.Host), "--app-bundle", app, "--yes")
	c.console = consoleSession{r.Result.ConsoleURL, r.Result.Password}
	return c
}

// newKOTSVersion is the version of KOTS of the shipped payload.
const newKOTSVersion = "1.131.2"

// kubectl runs a command in the cluster, which must succeed.
func (c snapshotCluster) kubectl(t testing.TB, ctx context.Context, args ...string) string {
	t.Helper()
	return c.ForTest(t).MustRun(ctx, append([]string{binary, "kubectl"}, args...)...)
}

// waitForOutput runs a command every second until its output is as wanted, and returns it.
func waitForOutput(t testing.TB, ctx context.Context, h *lab.Host, within time.Duration, what string, want func(string) bool, args ...string) string {
	t.Helper()
	var out, errs string
	for end := time.Now().Add(within); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(time.Second) {
		if out, errs, _ = h.Run(ctx, args...); want(strings.TrimSpace(out)) {
			return strings.TrimSpace(out)
		}
	}
	t.Fatalf("no %s within %s: %s%s", what, within, out, errs)
	return ""
}

// menuText is the text of the menu of the console, in JavaScript.
const menuText = `[...document.querySelectorAll(".NavItem")].map(e => e.innerText).join(" ")`

// checkWithoutBackup verifies that the console offers no snapshots of an application whose release has no Backup, and why.
func (c snapshotCluster) checkWithoutBackup(t *testing.T, ctx context.Context) {
	b := logIn(t, c.console, "no-backup", 5*time.Minute)
	b.waitForText("Dashboard", time.Minute)
	if menu := b.eval(menuText); strings.Contains(menu, "Snapshots") {
		t.Errorf("the console offers snapshots: %q", menu)
	}
	if status, answer := b.call("POST", "/app/"+testapp.Slug+"/snapshot/backup", ""); status != "500" || !strings.Contains(answer, "failed to create backup") {
		t.Errorf("%s %s", status, answer)
	}
	log := c.kubectl(t, ctx, "logs", "-n", "kotsadm", "kotsadm-0", "--tail=200")
	if !strings.Contains(log, "application "+testapp.Slug+" does not have a backup spec") {
		t.Errorf("KOTS does not name the cause: %s", lastLines(log, 20))
	}
}

// deployWithVolume updates the application to a release with a volume, and writes data to it.
func (c snapshotCluster) deployWithVolume(t *testing.T, ctx context.Context) {
	app := copyAppBundle(t, ctx, c.ForTest(t), testapp.Release{VersionLabel: "2.0.0", Cursor: 2, TargetKOTS: newKOTSVersion, Volume: true})
	c.ForTest(t).MustRun(ctx, binary, "kots", "upstream", "upgrade", testapp.Slug, "--namespace", "kotsadm", "--airgap-bundle", app, "--deploy")
	waitForOutput(t, ctx, c.ForTest(t), 5*time.Minute, "volume", func(out string) bool { return out == "data" },
		binary, "kubectl", "get", "deployment", "hello", "-n", "kotsadm", "-o", "jsonpath={.spec.template.spec.volumes[0].name}")
	c.waitForApp(t, ctx)
	c.inApp(t, ctx, "mkdir -p /data/sub && head -c 20000000 /dev/urandom >/data/sub/file && chown 1234:5678 /data/sub/file && chmod 0640 /data/sub/file")
}

// waitForApp waits until the application runs.
func (c snapshotCluster) waitForApp(t *testing.T, ctx context.Context) {
	t.Helper()
	c.kubectl(t, ctx, "wait", "-n", "kotsadm", "--for=create", "deployment/hello", "--timeout=5m")
	c.kubectl(t, ctx, "rollout", "status", "-n", "kotsadm", "deployment/hello", "--timeout=5m")
}

// inApp runs a script in the pod of the application.
func (c snapshotCluster) inApp(t *testing.T, ctx context.Context, script string) string {
	t.Helper()
	return c.kubectl(t, ctx, "exec", "-n", "kotsadm", "deployment/hello", "--", "sh", "-c", script)
}

// data describes all files in the volume of the application, and their content, without what Velero leaves there.
func (c snapshotCluster) data(t *testing.T, ctx context.Context) string {
	t.Helper()
	const own = "find . -path ./.velero -prune -o "
	return c.inApp(t, ctx, "cd /data && "+own+"-print | sort && "+own+"-type f -print | sort | xargs sha256sum && stat -c '%u:%g %a' sub/file")
}

// checkSettingsPage verifies that the page of settings shows the store of Plinth, and not its secret key.
func (c snapshotCluster) checkSettingsPage(t *testing.T, ctx context.Context) {
	b := logIn(t, c.console, "snapshot-settings", 5*time.Minute)
	b.waitFor("snapshots in the menu", menuText+`.includes("Snapshots")`, time.Minute) // the application has a Backup now
	b.open("/snapshots/settings")
	const card = `[data-testid="snapshots-storage-settings-card"]`
	b.waitFor("bucket", `document.querySelector('`+card+` input[placeholder="Bucket name"]')?.value`, time.Minute)
	b.screenshot("")
	store := b.eval(`[...document.querySelectorAll('` + card + ` input')].map(e => e.placeholder + "=" + e.value).join("\n")`)
	location := c.kubectl(t, ctx, "get", "backupstoragelocation", "-n", "velero", "default", "-o", "jsonpath={.spec.config.s3Url}")
	for _, want := range []string{"Bucket name=snapshots", "http[s]://hostname[:port]=" + location, "us-east-1=us-east-1"} {
		if !strings.Contains(store, want) {
			t.Errorf("%q is missing in %q", want, store)
		}
	}
	if text := b.text(); !strings.Contains(text, "S3-Compatible Storage") || strings.Contains(text, "Scheduling not active") {
		t.Errorf("the page shows %.2000q", text)
	}
	secret := c.kubectl(t, ctx, "get", "secret", "-n", "velero", "object-store", "-o", "go-template={{index .data \"secret-access-key\" | base64decode}}")
	if _, answer := b.call("GET", "/snapshots/settings", ""); strings.Contains(store+answer, secret) || !strings.Contains(answer, `"isVeleroRunning":true`) {
		t.Errorf("the secret key is shown, or Velero does not run: %s", answer)
	}
}

// checkInBrowser takes a full snapshot in the browser, changes the data, and restores the application.
func (c snapshotCluster) checkInBrowser(t *testing.T, ctx context.Context) {
	before := c.data(t, ctx)
	b := logIn(t, c.console, "snapshots", 30*time.Minute)
	b.open("/snapshots")
	b.waitForText("No snapshots yet", time.Minute)
	b.clickButton("Start a snapshot")
	b.waitForText("In Progress", time.Minute)
	b.waitFor("completed snapshot", `document.querySelector('[data-testid="snapshot-row-0"]')?.innerText.includes("Completed")`, 10*time.Minute)
	b.screenshot("")
	name := strings.TrimSpace(b.eval(`document.querySelector('[data-testid="snapshot-row-0"] .card-item-title').innerText`))
	c.checkBackup(t, ctx, name)

	c.inApp(t, ctx, "rm -r /data/sub && echo other >/data/other")
	b.click(`[data-testid="snapshot-row-0"] svg`) // the first of its icons restores
	b.click(`//p[normalize-space()="Partial restore"]`)
	b.fill(`input[placeholder="type your slug"]`, testapp.Slug)
	b.clickButton("Confirm and restore")
	b.waitFor("end of the restore", `location.pathname == "/restore-completed" ||
		document.body.innerText.match(/restored with warnings|failed to restore/)`, 15*time.Minute)
	b.screenshot("-restored")
	if text := b.text(); strings.Contains(text, "failed to restore") {
		t.Fatalf("the page shows %.2000q", text)
	}
	c.checkRestore(t, ctx, name+"."+testapp.Slug)
	c.checkData(t, ctx, before)
	checkStatusText(t, ctx, c.ForTest(t), "Last snapshot:", name)
}

// checkBackup fails unless a full snapshot is complete: it has the data of the console and of the application.
func (c snapshotCluster) checkBackup(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	const fields = `jsonpath={.status.phase} {.status.errors} {.metadata.annotations.kots\.io/instance}`
	if state := c.kubectl(t, ctx, "get", "backup", "-n", "velero", name, "-o", fields); strings.Join(strings.Fields(state), " ") != "Completed true" {
		t.Fatalf("the snapshot %s is %q", name, state)
	}
	volumes := c.kubectl(t, ctx, "get", "podvolumebackups", "-n", "velero", "-l", "velero.io/backup-name="+name,
		"-o", "jsonpath={range .items[*]}{.spec.volume}={.status.phase} {end}")
	for _, want := range []string{"backup=Completed", "data=Completed"} {
		if !strings.Contains(volumes, want) {
			t.Errorf("%s is missing in the volumes of the snapshot: %s", want, volumes)
		}
	}
}

// checkRestore fails unless a restore is complete.
func (c snapshotCluster) checkRestore(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	state := c.kubectl(t, ctx, "get", "restore", "-n", "velero", name, "-o", "jsonpath={.status.phase} {.status.errors}")
	if strings.TrimSpace(state) != "Completed" {
		t.Errorf("the restore %s is %q", name, state)
	}
}

// checkData fails unless the volume of the application has the same files as before.
func (c snapshotCluster) checkData(t *testing.T, ctx context.Context, before string) {
	t.Helper()
	c.waitForApp(t, ctx)
	if after := c.data(t, ctx); after != before {
		t.Errorf("the volume has\n%s\nand had\n%s", after, before)
	}
}

// checkByCLI takes a full snapshot with the kots CLI, deletes the application with its volume, and restores everything: the
// console with its database, and the application.
func (c snapshotCluster) checkByCLI(t *testing.T, ctx context.Context) {
	h := c.ForTest(t)
	before := c.data(t, ctx)
	out := h.MustRun(ctx, binary, "kots", "backup", "--namespace", "kotsadm")
	name := regexp.MustCompile(`Backup name is (\S+)`).FindStringSubmatch(out)
	if name == nil {
		t.Fatalf("kots backup: %s", out)
	}
	c.checkBackup(t, ctx, name[1])
	if out := h.MustRun(ctx, binary, "kots", "get", "backups", "--namespace", "kotsadm"); !strings.Contains(out, name[1]) {
		t.Errorf("kots get backups: %s", out)
	}
	c.kubectl(t, ctx, "delete", "-n", "kotsadm", "deployment/hello", "pvc/data", "--timeout=5m")
	if out := h.MustRun(ctx, binary, "kots", "restore", "--from-backup", name[1]); !strings.Contains(out, "Restore completed successfully") {
		t.Fatalf("kots restore: %s", out) // it exits with 0 also for a snapshot that it does not restore
	}
	c.checkRestore(t, ctx, name[1]+".kotsadm")
	c.checkRestore(t, ctx, name[1]+"."+testapp.Slug)
	c.checkData(t, ctx, before)
	browseConsole(t, c.console, "after-restore", "Dashboard") // the password is that of the snapshot
}

// checkSchedule sets a schedule and how long snapshots are kept in the browser, and waits for a snapshot with both.
func (c snapshotCluster) checkSchedule(t *testing.T, ctx context.Context) {
	b := logIn(t, c.console, "snapshot-schedule", 20*time.Minute)
	b.open("/snapshots/settings")
	b.click(`[data-testid="enable-scheduled-snapshots-label"]`)
	b.fill(`[data-testid="snapshots-schedule-cron-expression"]`, "* * * * *")
	b.clickButton("Update schedule")
	b.waitForText("Schedule updated", time.Minute)
	b.fill(`[data-testid="snapshots-retention-value"]`, "3")
	b.click(`[data-testid="snapshots-retention-unit"] [class*="__control"]`)
	b.click(`//div[contains(@class, "__option") and normalize-space()="Days"]`)
	b.clickButton("Update retention policy")
	b.waitForText("Retention updated", time.Minute)
	b.screenshot("")
	_, config := b.call("GET", "/snapshot/config", "")
	for _, want := range []string{`"autoEnabled":true`, `"schedule":"* * * * *"`, `"converted":"72h"`} {
		if !strings.Contains(config, want) {
			t.Errorf("KOTS has stored %s, which lacks %s", config, want)
		}
	}
	const scheduled = `{range .items[?(@.metadata.annotations.kots\.io/snapshot-trigger=="schedule")]}{.metadata.name} {.spec.ttl} {.status.phase}{"\n"}{end}`
	done := waitForOutput(t, ctx, c.ForTest(t), 10*time.Minute, "scheduled snapshot", func(out string) bool { return strings.Contains(out, " Completed") },
		binary, "kubectl", "get", "backups", "-n", "velero", "-o", "jsonpath="+scheduled)
	if name, _, _ := strings.Cut(done, " "); !strings.HasPrefix(done, name+" 72h0m0s Completed") {
		t.Errorf("the scheduled snapshot is %q", done)
	}
	b.click(`[data-testid="enable-scheduled-snapshots-label"]`)
	b.clickButton("Update schedule")
	b.waitFor("schedule that is off", `!document.querySelector('#autoEnabled').checked && document.body.innerText.includes("Schedule updated")`, time.Minute)
	if status, config := b.call("GET", "/snapshot/config", ""); status != "200" || !strings.Contains(config, `"autoEnabled":false`) {
		t.Errorf("%s %s", status, config)
	}
}

// checkExpiry has KOTS keep snapshots for a minute, takes one, and waits until Velero has deleted it with its data. Velero looks
// for expired ones when it starts, and then once an hour.
func (c snapshotCluster) checkExpiry(t *testing.T, ctx context.Context) {
	waitForOutput(t, ctx, c.ForTest(t), 10*time.Minute, "end of all snapshots", func(out string) bool {
		return !strings.Contains(out, "InProgress") && !strings.Contains(out, "Finalizing") && !strings.Contains(out, "New")
	}, binary, "kubectl", "get", "backups", "-n", "velero", "-o", "jsonpath={..status.phase}")
	b := logIn(t, c.console, "snapshot-expiry", 20*time.Minute)
	b.waitForText("Dashboard", time.Minute)
	setRetention := func(value, unit string) {
		t.Helper()
		status, answer := b.call("PUT", "/snapshot/retention", fmt.Sprintf(`{"inputValue":%q,"inputTimeUnit":%q}`, value, unit))
		if status != "200" || !strings.Contains(answer, `"success":true`) {
			t.Fatalf("%s %s", status, answer)
		}
	}
	setRetention("1", "minutes")
	out := c.ForTest(t).MustRun(ctx, binary, "kots", "backup", "--namespace", "kotsadm")
	setRetention("1", "months")
	name := regexp.MustCompile(`Backup name is (\S+)`).FindStringSubmatch(out)
	if name == nil {
		t.Fatalf("kots backup: %s", out)
	}
	folder := snapshotFolder + "/objects/snapshots/backups/" + name[1]
	c.ForTest(t).MustRun(ctx, "test", "-d", folder)
	c.ForTest(t).MustRun(ctx, "sleep", "60")
	c.kubectl(t, ctx, "delete", "pod", "-n", "velero", "-l", "deploy=velero", "--now")
	c.kubectl(t, ctx, "wait", "-n", "velero", "--for=delete", "backup/"+name[1], "--timeout=5m")
	waitForOutput(t, ctx, c.ForTest(t), time.Minute, "end of the objects", func(out string) bool { return out == "" },
		"sh", "-c", "ls -A "+folder+" 2>/dev/null || true")
}
