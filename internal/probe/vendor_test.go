package probe

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
)

const lsblk = `NAME="sda" KNAME="sda" PKNAME="" TYPE="disk" SIZE="1024" FSTYPE="" MOUNTPOINT="" RO="0" RM="0"
NAME="sda1" KNAME="sda1" PKNAME="sda" TYPE="part" SIZE="512" FSTYPE="ext4" MOUNTPOINT="/mnt/a\x20b" RO="0" RM="0"
NAME="sr0" KNAME="sr0" PKNAME="" TYPE="rom" SIZE="0" FSTYPE="" MOUNTPOINT="" RO="1" RM="1"
`

func TestParseBlockDevices_ReadsPairs(t *testing.T) {
	want := []facts.BlockDevice{
		{Name: "sda", KernelName: "sda", Type: "disk", Size: 1024},
		{Name: "sda1", KernelName: "sda1", Parent: "sda", Type: "part", Size: 512, FSType: "ext4", Mount: "/mnt/a b"},
		{Name: "sr0", KernelName: "sr0", Type: "rom", ReadOnly: true, Removable: true},
	}
	if got := parseBlockDevices([]byte(lsblk)); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestParseReleaseFile_FindsVersion(t *testing.T) {
	for text, want := range map[string]string{
		"Red Hat Enterprise Linux release 9.4 (Plow)\n":         "9.4",
		"CentOS Linux release 7.9.2009 (Core)":                  "7.9.2009",
		"Amazon Linux release 2023.6.20241010 (Amazon Linux)\n": "2023.6.20241010",
		"12.5\n": "12.5", "trixie/sid\n": "", "": "",
	} {
		t.Run(text, func(t *testing.T) {
			if got := parseReleaseFile([]byte(text)); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func TestParseCPUInfo_CountsCores(t *testing.T) {
	cpu, err := parseCPUInfo([]byte("processor: 0\nphysical id: 0\ncore id: 0\nprocessor: 1\nphysical id: 0\ncore id: 0\nprocessor: 2\nphysical id: 1\ncore id: 0\n"))
	if err != nil || cpu.Count != 3 || cpu.Cores != 2 {
		t.Errorf("%+v, %v", cpu, err)
	}
}

func FuzzVendorTexts(f *testing.F) {
	f.Add([]byte(lsblk))
	f.Add([]byte("ufw.service loaded active exited Uncomplicated firewall\n"))
	f.Add([]byte("Rocky Linux release 9.4 (Blue Onyx)\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, d := range parseBlockDevices(text) {
			if d.Name == "" {
				t.Error("a device without a name")
			}
		}
		for _, s := range parseServices(text) {
			if s.Unit == "" || s.Sub == "" {
				t.Errorf("%+v", s)
			}
		}
		if v := parseReleaseFile(text); strings.Trim(v, "0123456789.") != "" {
			t.Errorf("version %q", v)
		}
	})
}

func TestGatherFacts_ListsDevicesAndRequestedServices(t *testing.T) {
	fake := newFakeHost(t, map[string]string{"/etc/os-release": "ID=debian\nVERSION_ID=12\n", "/etc/debian_version": "12.5\n", "/etc/resolv.conf": "search corp.example\nnameserver 10.0.0.2\n"})
	fake.Expect("lsblk ").Return(lsblk, nil)
	fake.Expect("systemctl list-units").Return("firewalld.service loaded active running firewalld\nssh.service loaded active running OpenSSH\n", nil)
	k := fakeSystem()
	k.ResolveAt = func(_ context.Context, server, name string) ([]netip.Addr, error) {
		if name == "x.corp.example." && server == "10.0.0.2:53" {
			return []netip.Addr{netip.MustParseAddr("10.9.9.9")}, nil
		}
		return nil, &net.DNSError{IsNotFound: true}
	}
	f := gatherFacts(t.Context(), newProber(fake.Host(), k, facts.Request{Devices: true, Services: []string{"firewalld"}, DNS: []string{"x"}}), time.Minute)
	if len(f.Devices) != 3 || len(f.Services) != 1 || f.Services[0].Unit != "firewalld.service" || f.OS.Release != "12.5" {
		t.Errorf("%+v\n%+v\n%+v", f.Devices, f.Services, f.OS)
	}
	want := []facts.DNSAnswer{{Name: "x", Query: "x.", Server: "10.0.0.2:53"}, {Name: "x", Query: "x.corp.example.", Server: "10.0.0.2:53", Record: "10.9.9.9", Search: "corp.example"}}
	if !slices.Equal(f.DNS, want) {
		t.Errorf("%+v", f.DNS)
	}
}

// newKeyPair returns a certificate and its key in PEM format.
func newKeyPair(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

func TestGatherKeyPair_ReportsStatus(t *testing.T) {
	certificate, key := newKeyPair(t)
	_, other := newKeyPair(t)
	encrypted := string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("secret")}))
	for name, c := range map[string]struct {
		certificate, key string
		want             facts.KeyPairStatus
	}{
		"valid":                 {certificate, key, facts.KeyPairValid},
		"switched":              {key, certificate, facts.KeyPairSwitched},
		"two certificates":      {certificate, certificate, facts.KeyPairSwitched},
		"the key of another":    {certificate, other, facts.KeyPairMismatch},
		"encrypted":             {certificate, encrypted, facts.KeyPairEncrypted},
		"not PEM":               {"text", key, facts.KeyPairInvalid},
		"a key that is damaged": {certificate, strings.Replace(key, "\nM", "\nA", 1), facts.KeyPairInvalid},
		"no key":                {certificate, "", facts.KeyPairMissing},
	} {
		t.Run(name, func(t *testing.T) {
			texts := map[string]string{"/c": c.certificate}
			if c.key != "" {
				texts["/k"] = c.key
			}
			f := gatherFrom(t, texts, fakeSystem(), facts.Request{KeyPairs: []facts.KeyPairFiles{{Certificate: "/c", Key: "/k"}}})
			if len(f.KeyPairs) != 1 || f.KeyPairs[0].Status != c.want {
				t.Errorf("%+v, want %s", f.KeyPairs, c.want)
			}
		})
	}
}

// forward forwards connections to a new port on loopback to target and returns its address.
// The first one gets another host's answer.
func forward(t *testing.T, target string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if n == 0 {
				_, _ = c.Write([]byte("another host answers with a text that is long enough"))
				_ = c.Close()
				continue
			}
			to, err := net.Dial("tcp", target)
			if err != nil {
				_ = c.Close()
				continue
			}
			go func() { _, _ = copyAndClose(to, c) }()
			go func() { _, _ = copyAndClose(c, to) }()
		}
	}()
	return l.Addr().String()
}

func copyAndClose(to, from net.Conn) (int64, error) {
	defer func() { _, _ = to.Close(), from.Close() }()
	var n int64
	buf := make([]byte, 4096)
	for {
		got, err := from.Read(buf)
		if err != nil {
			return n, err
		}
		n += int64(got)
		if _, err := to.Write(buf[:got]); err != nil {
			return n, err
		}
	}
}

// freePort returns a TCP port that nothing uses.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func TestTestBalancer_ReportsStatus(t *testing.T) {
	port := freePort(t)
	through := forward(t, fmt.Sprintf("127.0.0.1:%d", port))
	used, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = used.Close() }()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	closed := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	for name, c := range map[string]struct {
		key  facts.BalancerKey
		want string
	}{
		"leads here at the second attempt": {facts.BalancerKey{Address: through, Port: port, Timeout: 20 * time.Second}, "connected"},
		"HTTP leads here":                  {facts.BalancerKey{Address: "http://" + through, Port: port, HTTP: true, Timeout: 20 * time.Second}, "connected"},
		"refused":                          {facts.BalancerKey{Address: closed, Port: freePort(t), Timeout: 5 * time.Second}, "connection-refused"},
		"HTTP refused":                     {facts.BalancerKey{Address: "http://" + closed, Port: freePort(t), HTTP: true, Timeout: 5 * time.Second}, "connection-refused"},
		"leads to a host that is silent":   {facts.BalancerKey{Address: silent.Addr().String(), Port: freePort(t), Timeout: 100 * time.Millisecond}, "connection-timeout"},
		"the port is in use":               {facts.BalancerKey{Address: through, Port: used.Addr().(*net.TCPAddr).Port, Timeout: time.Second}, "address-in-use"},
		"an address without a port":        {facts.BalancerKey{Address: "lb.example.com", Port: port, Timeout: time.Second}, "invalid-address"},
		"an address in capitals":           {facts.BalancerKey{Address: "LB.example.com:1", Port: port, Timeout: time.Second}, "invalid-address"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := testBalancer(t.Context(), c.key); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestRunVendorTests_BoundsPrograms(t *testing.T) {
	t.Setenv("PLINTH_TEST_INHERITED", "from the parent")
	pr := newProber(host.ReadOnly(host.Local("/")), fakeSystem(), facts.Request{Runs: []facts.CommandKey{
		{Name: "env", Argv: []string{"sh", "-c", `echo "$A $PLINTH_TEST_INHERITED"; echo aside >&2`}, Env: []string{"A=b=c"}, Inherit: []string{"PLINTH_TEST_INHERITED"}},
		{Name: "fails", Argv: []string{"sh", "-c", "echo out; exit 3"}},
		{Name: "slow", Argv: []string{"sleep", "60"}, Timeout: 50 * time.Millisecond},
		{Name: "endless", Argv: []string{"yes"}},
		{Name: "missing", Argv: []string{"plinth-no-such-program"}},
		{Name: "no variable", Argv: []string{"true"}, Inherit: []string{"PLINTH_TEST_NOT_SET"}},
	}})
	var f facts.Facts
	pr.runVendorTests(t.Context(), &f)
	got := map[string]facts.CommandResult{}
	for _, r := range f.Runs {
		got[r.Name] = r
	}
	if got["env"].Output != "b=c from the parent\n" || got["fails"].Output != "out\n" || got["fails"].Code != 3 || len(f.Runs) != 2 {
		t.Errorf("%+v", f.Runs)
	}
	for name, reason := range map[string]string{"slow": "ended after 50ms", "endless": "writes more than", "missing": "plinth-no-such-program", "no variable": "no variable PLINTH_TEST_NOT_SET"} {
		if why := f.UnknownReason(facts.FactRun + ":" + name); !strings.Contains(why, reason) {
			t.Errorf("%s: %q", name, why)
		}
	}
}
