package testkit

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// namespaceVariable names the test that runs in namespaces of its own.
const namespaceVariable = "PLINTH_TEST_NAMESPACES"

// EnterNamespaces runs the rest of the test t in new namespaces: it starts the test again there, and returns false in
// the process outside. kinds are options of unshare(1), such as --net. The test is skipped without root, and where
// namespaces cannot be created.
func EnterNamespaces(t *testing.T, kinds ...string) bool {
	t.Helper()
	if os.Getenv(namespaceVariable) == t.Name() {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if out, err := exec.Command("unshare", append(slices.Clone(kinds), "true")...).CombinedOutput(); err != nil {
		t.Skipf("needs namespaces: %v %s", err, out)
	}
	var pattern []string
	for _, name := range strings.Split(t.Name(), "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(name)+"$")
	}
	c := exec.Command("unshare", append(slices.Clone(kinds), os.Args[0], "-test.v", "-test.run="+strings.Join(pattern, "/"))...)
	c.Env = append(os.Environ(), namespaceVariable+"="+t.Name())
	out, err := c.CombinedOutput()
	t.Log(string(out))
	Must(t, err)
	if strings.Contains(string(out), "--- SKIP: "+t.Name()+" ") {
		t.SkipNow()
	}
	return false
}

// EnterNetwork is EnterNamespaces for a network with the address 192.168.50.5 on eth0. The tests there load packet
// rules into the kernel, so they are skipped without iptables and nft, too.
func EnterNetwork(t *testing.T) bool {
	t.Helper()
	for _, program := range []string{"iptables-nft-save", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs iptables and nft: make test-unit installs them")
		}
	}
	if !EnterNamespaces(t, "--net") {
		return false
	}
	Shell(t, "ip link set lo up; ip link add eth0 type veth peer name other; ip address add 192.168.50.5/24 dev eth0; ip link set eth0 up; ip link set other up; ip route add default via 192.168.50.1")
	return true
}

// Shell runs a script of bash, which must succeed. sudo in it only runs its arguments. The test is skipped if the
// script creates a network device of a type that this kernel does not have.
func Shell(t *testing.T, script string) {
	t.Helper()
	out, err := exec.Command("bash", "-euc", `sudo() { "$@"; }`+"\n"+script).CombinedOutput()
	if strings.Contains(string(out), "Unknown device type") {
		t.Skipf("this kernel has no such device: %s", script)
	}
	if err != nil {
		t.Fatalf("%s\n%v: %s", script, err, out)
	}
}
