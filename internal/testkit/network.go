package testkit

import (
	"os"
	"os/exec"
	"testing"
)

// EnterNetwork runs the rest of the test t in a network name space of its own, with the
// address 192.168.50.5 on eth0: it starts the test again there, and returns false in the
// process outside. The tests there load packet rules into the kernel. The test is skipped
// without root, unshare, iptables and nft.
func EnterNetwork(t *testing.T) bool {
	t.Helper()
	const inside = "PLINTH_TEST_NETWORK"
	if os.Getenv(inside) != "" {
		Shell(t, "ip link set lo up; ip link add eth0 type veth peer name other; ip address add 192.168.50.5/24 dev eth0; ip link set eth0 up; ip link set other up; ip route add default via 192.168.50.1")
		return true
	}
	for _, program := range []string{"unshare", "iptables-nft-save", "nft"} {
		if _, err := exec.LookPath(program); err != nil || os.Geteuid() != 0 {
			t.Skip("needs root, unshare, iptables and nft: make test-unit installs them")
		}
	}
	c := exec.Command("unshare", "--net", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), inside+"=1")
	out, err := c.CombinedOutput()
	t.Log(string(out))
	Must(t, err)
	return false
}

// Shell runs a script, which must succeed.
func Shell(t *testing.T, script string) {
	t.Helper()
	if out, err := exec.Command("sh", "-euc", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}
