package restore

import (
	"bytes"
	"encoding/json"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/backup"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/action/install"
	"github.com/plinthdev/plinth/internal/action/preflight"
	"github.com/plinthdev/plinth/internal/action/source"
	format "github.com/plinthdev/plinth/internal/backup"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/ui"
)

// freshHost is a host without a cluster, with a backup of a cluster that has lost its controllers n1 and n2.
type freshHost struct {
	*hosttest.Fake
	env   *action.Env
	keys  string // file with the private key of the backup
	notes []string
}

// backupFile is the path of the backup on a freshHost.
const backupFile = "/mnt/backup/b.plinth-backup"

// freshHeader returns the header of the backup.
func freshHeader() format.Header {
	return format.Header{Cluster: "my-app", ClusterID: "pin", Node: "n1", TakenAt: clock(), ReceiptAt: clock().Add(-time.Hour), Kubernetes: "1.33", K0s: "v1.33.8+k0s.1",
		Bundle: digest.FromString("bundle").String(), Release: 7}
}

// newFreshHost returns a host with a backup. Files of the lost controller in missing are not in it.
func newFreshHost(t *testing.T, missing ...string) *freshHost {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a restore needs root")
	}
	f := &freshHost{Fake: hosttest.New(t)}
	f.env = &action.Env{Host: f.Host(), GlobalOptions: action.GlobalOptions{DataDir: dataDir, Now: clock, Events: func(step.Event) {},
		Note: func(text string) { f.notes = append(f.notes, text) }, Secrets: &ui.Secrets{}}}
	key, err := age.GenerateX25519Identity()
	testkit.Must(t, err)
	f.keys = filepath.Join(t.TempDir(), "key.txt")
	testkit.Must(t, os.WriteFile(f.keys, []byte(key.String()+"\n"), 0o600))
	f.writeBackup(t, backupFile, freshHeader(), key, missing...)
	return f
}

// writeBackup writes a backup with the header h to the path p.
func (f *freshHost) writeBackup(t *testing.T, p string, h format.Header, key *age.X25519Identity, missing ...string) {
	t.Helper()
	content := map[string]string{format.EtcdName: "etcd"}
	for _, x := range k0s.SharedFiles() {
		content[format.HostName(x.Path)] = "of the backup: " + x.Path
	}
	lost := host.Local(t.TempDir())
	testkit.Must(t, journal.WriteReceipt(lost, dataDir, journal.Receipt{Name: "my-app", Node: "n1", API: "api.example.com", InstalledAt: clock().Add(-time.Hour)}))
	receipt, err := lost.ReadFile(journal.ReceiptPath(dataDir))
	testkit.Must(t, err)
	content[format.HostName(journal.ReceiptPath(dataDir))] = string(receipt)
	for _, m := range missing {
		delete(content, format.HostName(m))
	}
	m := format.Manifest{Header: h, Nodes: []format.Node{{Name: "n1", Role: "controller", Address: "10.0.0.5"}, {Name: "n2", Role: "controller", Address: "10.0.0.6"},
		{Name: "w1", Role: "worker", Address: "10.0.0.7"}}}
	for name, text := range content {
		m.Files = append(m.Files, format.File{Name: name, Mode: 0o600, Size: int64(len(text)), Digest: digest.FromString(text)})
	}
	var raw bytes.Buffer
	_, err = format.Write(&raw, m, format.Lock{Recipients: []age.Recipient{key.Recipient()}}, func(x format.File) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(content[x.Name])), nil
	})
	testkit.Must(t, err, f.env.Host.Write(p, &raw, 0o600))
}

// newHost returns the restore on the host.
func (f *freshHost) newHost(answering ...string) *newHost {
	return &newHost{opts: Options{ControlPlane: backupFile, Key: backup.KeyFlags{IdentityFile: f.keys, Secrets: f.env.Secrets}},
		identify: identifyOwn(answering)}
}

func TestReadBackup_ReturnsTheKeysOfTheCluster(t *testing.T) {
	f := newFreshHost(t)
	n := f.newHost()
	testkit.Must(t, n.readBackup(t.Context(), f.env.ReadOnly()))
	for _, x := range k0s.SharedFiles() {
		if string(n.content[x.Path]) != "of the backup: "+x.Path {
			t.Errorf("%s: %q", x.Path, n.content[x.Path])
		}
	}
	if n.receipt.API != "api.example.com" || n.dataDir != dataDir || !slices.Equal(n.nodes("controller"), []string{"n1", "n2"}) {
		t.Errorf("%+v, %s, %v", n.receipt, n.dataDir, n.nodes("controller"))
	}
}

func TestReadBackup_RefusesByName(t *testing.T) {
	key, err := age.GenerateX25519Identity()
	testkit.Must(t, err)
	beside := func(t *testing.T, f *freshHost, change func(*format.Header)) {
		h := freshHeader()
		h.TakenAt = clock().Add(time.Hour)
		change(&h)
		f.writeBackup(t, "/mnt/backup/newer.plinth-backup", h, key)
	}
	for name, c := range map[string]struct {
		missing []string
		change  func(*testing.T, *freshHost)
		exit    int
		text    string // "" if it is not refused
		note    string
	}{
		"complete": {},
		"damaged":  {change: func(t *testing.T, f *freshHost) { flip(t, f.Root+backupFile) }, exit: 6, text: "it is damaged"},
		"another key": {change: func(t *testing.T, f *freshHost) { f.keys = otherKey(t) }, exit: 6,
			text: "cannot be decrypted with this key"},
		"without a key of the cluster": {missing: []string{k0s.CAKeyPath}, exit: 6, text: "it lacks the file " + k0s.CAKeyPath},
		"without a receipt":            {missing: []string{journal.ReceiptPath(dataDir)}, exit: 6, text: "the receipt in it cannot be read"},
		"older than the newest receipt": {change: func(t *testing.T, f *freshHost) {
			beside(t, f, func(h *format.Header) { h.ReceiptAt = clock().Add(time.Minute) })
		}, exit: 2, text: "older than the receipt of the cluster"},
		"a newer one beside it": {change: func(t *testing.T, f *freshHost) { beside(t, f, func(*format.Header) {}) }, note: "a newer backup of this cluster is beside it"},
		"a newer one of another cluster": {change: func(t *testing.T, f *freshHost) {
			beside(t, f, func(h *format.Header) { h.ClusterID, h.ReceiptAt = "other", clock().Add(time.Minute) })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFreshHost(t, c.missing...)
			if c.change != nil {
				c.change(t, f)
			}
			err := f.newHost().readBackup(t.Context(), f.env.ReadOnly())
			if (err == nil) != (c.text == "") || err != nil && (problem.ExitCode(err) != c.exit || !strings.Contains(err.Error(), c.text) || problem.Hint(err) == "") {
				t.Errorf("exit %d, %v → %s", problem.ExitCode(err), err, problem.Hint(err))
			}
			if notes := strings.Join(f.notes, "\n"); !strings.Contains(notes, c.note) || (c.note == "") != (notes == "") {
				t.Errorf("notes: %s", notes)
			}
		})
	}
}

// candidate returns a host that fits the backup, with the bundle of the cluster.
func candidate(t *testing.T) install.Candidate {
	t.Helper()
	raw, err := os.ReadFile("../../../installer.yaml")
	testkit.Must(t, err)
	in, findings := spec.ParseInstaller("installer.yaml", raw)
	if in == nil {
		t.Fatal(findings)
	}
	in.Metadata.Name, in.Spec.K0s.Version = "my-app", "v1.33.8+k0s.1"
	c := install.Candidate{Node: "n9", Bundle: digest.FromString("bundle"), Release: 7, Config: config.Config{Installer: in}}
	setAddress(&c, "10.0.0.9")
	return c
}

// setAddress gives the host of c its only address.
func setAddress(c *install.Candidate, address string) {
	at := netip.MustParseAddr(address)
	c.Host.Network = facts.Network{NodeAddress: at, Interfaces: []facts.Interface{{Name: "eth0", Up: true, Addresses: []netip.Prefix{netip.PrefixFrom(at, 24)}}}}
}

func TestCheck_RefusesABundleOrHostThatDoesNotFit(t *testing.T) {
	other := func(change func(*install.Candidate)) func(*install.Candidate) {
		return func(c *install.Candidate) {
			c.Bundle = digest.FromString("another")
			change(c)
		}
	}
	for name, c := range map[string]struct {
		change    func(*install.Candidate)
		dataDir   string
		answering []string
		restored  bool // a killed run has restored etcd
		text      string
	}{
		"another name and address":        {},
		"the name and address of before":  {change: func(c *install.Candidate) { c.Node = "n1"; setAddress(c, "10.0.0.5") }, answering: []string{"10.0.0.5"}},
		"another application":             {change: other(func(c *install.Candidate) { c.Config.Installer.Metadata.Name = "other" }), text: "it is of the cluster my-app, and the bundle is of other"},
		"another Kubernetes":              {change: other(func(c *install.Candidate) { c.Config.Installer.Spec.K0s.Version = "v1.34.1+k0s.0" }), text: "it is of Kubernetes 1.33, and the bundle has 1.34"},
		"an older k0s":                    {change: other(func(c *install.Candidate) { c.Config.Installer.Spec.K0s.Version = "v1.33.7+k0s.0" }), text: "has the older v1.33.7+k0s.0"},
		"another release":                 {change: other(func(c *install.Candidate) { c.Release = 8 }), text: "the given one is release 8"},
		"another data folder":             {dataDir: "/data", text: "the data folder of the cluster is /var/lib/plinth"},
		"the name of a worker":            {change: func(c *install.Candidate) { c.Node = "w1" }, text: "a worker with the name of this host"},
		"the address of a worker":         {change: func(c *install.Candidate) { setAddress(c, "10.0.0.7") }, text: "has the address 10.0.0.7 of worker w1"},
		"a controller that runs":          {answering: []string{"10.0.0.6"}, text: "etcd on controller n2 (10.0.0.6) answers"},
		"one that has joined the resumed": {answering: []string{"10.0.0.6"}, restored: true},
	} {
		t.Run(name, func(t *testing.T) {
			f, on := newFreshHost(t), candidate(t)
			n := f.newHost(c.answering...)
			testkit.Must(t, n.readBackup(t.Context(), f.env))
			if c.change != nil {
				c.change(&on)
			}
			if c.dataDir != "" {
				f.env.DataDir = c.dataDir
			}
			if c.restored {
				raw, err := json.Marshal(plan.Snapshot{Version: 1, To: n.etcdDigest(), Data: &plan.SnapshotData{}})
				testkit.Must(t, err)
				testkit.WriteFiles(t, f.Root, 0o600, map[string]string{plan.RestoreDir(dataDir) + "/snapshot.json": string(raw), plan.RestoreDir(dataDir) + "/etcd-restored": ""})
			}
			err := n.check(t.Context(), f.env.ReadOnly(), on)
			if (err == nil) != (c.text == "") || err != nil && (problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), c.text) || problem.Hint(err) == "") {
				t.Errorf("exit %d, %v → %s", problem.ExitCode(err), err, problem.Hint(err))
			}
		})
	}
}

func TestQuestion_NamesWhatIsLostAndWhoHasToJoinAgain(t *testing.T) {
	f := newFreshHost(t)
	n := f.newHost()
	testkit.Must(t, n.readBackup(t.Context(), f.env))
	for name, c := range map[string]struct {
		address, api string
		want         string
	}{
		"another address":                {"10.0.0.9", "", "they have to join again"},
		"the address of before":          {"10.0.0.5", "", "find this host by themselves"},
		"an additional address of API":   {"10.0.0.9", "api.example.com", "find this host by themselves"},
		"what was written since is lost": {"10.0.0.9", "", "since 2026-11-29T12:00:00Z is lost"},
		"the console's data is lost":     {"10.0.0.9", "", "the database of the admin console"},
	} {
		t.Run(name, func(t *testing.T) {
			on := candidate(t)
			setAddress(&on, c.address)
			n.receipt.API = c.api
			if text := n.question(on); !strings.Contains(strings.ToLower(text), strings.ToLower(c.want)) || !strings.Contains(text, "Lost controllers: n1, n2.") {
				t.Error(text)
			}
		})
	}
}

func TestIsOnNewHost_NeedsABundleAndNoCluster(t *testing.T) {
	bundled := install.Options{LoadOptions: config.LoadOptions{Bundle: "b"}}
	addressed := func(o install.Options) install.Options {
		o.ConfigureFirewall = preflight.OwnNetwork
		o.NodeAddress, o.APIAddress, o.IgnorePreflights = preflight.AddressFlags{Address: "10.0.0.9", Interface: "eth1"}, "api.example.com", []string{"memory"}
		o.Addresses = []string{"10.0.0.0/28"}
		return o
	}
	const unused = ": --address, --network-interface, --api-address, --configure-firewall, --load-balancer-addresses, --ignore-host-preflight would have no effect"
	for name, c := range map[string]struct {
		opts      Options
		installed bool
		want      bool
		text      string
	}{
		"a new host":                      {opts: Options{ControlPlane: "f", Install: bundled}, want: true},
		"a survivor":                      {opts: Options{ControlPlane: "f"}, installed: true},
		"a survivor with its data":        {opts: Options{FromThisNode: true}, installed: true},
		"no cluster, no bundle":           {opts: Options{ControlPlane: "f"}, text: "no bundle is given"},
		"a cluster, and a bundle":         {opts: Options{ControlPlane: "f", Install: bundled}, installed: true, text: "this host has a cluster"},
		"its own data, and a bundle":      {opts: Options{FromThisNode: true, Install: bundled}, installed: true, text: "needs no bundle"},
		"its own data, without a cluster": {opts: Options{FromThisNode: true}},
		"an address of a new host":        {opts: Options{ControlPlane: "f", Install: addressed(bundled)}, want: true},
		"an address of a survivor":        {opts: Options{ControlPlane: "f", Install: addressed(install.Options{})}, installed: true, text: unused},
		"an address, with its own data":   {opts: Options{FromThisNode: true, Install: addressed(install.Options{})}, installed: true, text: unused},
		"a key of a survivor":             {opts: Options{FromThisNode: true, Install: install.Options{Source: source.Request{VerifyKey: "k"}}}, installed: true, text: ": --verify-key would"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFreshHost(t)
			if c.installed {
				testkit.Must(t, journal.WriteReceipt(f.env.Host, dataDir, journal.Receipt{Name: "my-app"}))
			}
			got, err := c.opts.isOnNewHost(f.env)
			if got != c.want || (err == nil) != (c.text == "") || err != nil && (!strings.Contains(err.Error(), c.text) || problem.ExitCode(err) != problem.ExitUsage) {
				t.Errorf("%v %v", got, err)
			}
		})
	}
}

func TestQuestion_SaysWhetherTheSnapshotsAreHere(t *testing.T) {
	for name, c := range map[string]struct {
		store *spec.Velero
		file  string // on this host; "" for none
		want  string // "" for no line
	}{
		"no Velero":          {nil, "", ""},
		"a volume":           {&spec.Velero{}, "", ""},
		"no store":           {&spec.Velero{ObjectStore: spec.ObjectStore{Mode: spec.ObjectStoreNone, Folder: "/srv/s"}}, "", ""},
		"a folder with some": {&spec.Velero{ObjectStore: spec.ObjectStore{Folder: "/srv/s"}}, "/srv/s/objects/snapshots/backups/a/velero-backup.json", "The snapshots in /srv/s of this host are used.\n"},
		"an empty folder":    {&spec.Velero{ObjectStore: spec.ObjectStore{Folder: "/srv/s"}}, "/srv/s/lost+found/x", "There are no snapshots in /srv/s of this host: if a share or a disk has them, mount it there, or copy them, before the restore.\n"},
	} {
		t.Run(name, func(t *testing.T) {
			f, on := newFreshHost(t), candidate(t)
			if c.file != "" {
				testkit.WriteFiles(t, f.Root, 0o600, map[string]string{c.file: "{}"})
			}
			on.Config.Installer.Spec.Velero = c.store
			n := f.newHost()
			testkit.Must(t, n.readBackup(t.Context(), f.env), n.check(t.Context(), f.env.ReadOnly(), on))
			if got := n.storeText(on); got != c.want || !strings.Contains(n.question(on), c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
