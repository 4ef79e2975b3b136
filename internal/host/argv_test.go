package host

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestMain hides the secret that it is called with and prints the visible command line, or runs the
// tests.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "hide" {
		kept := HideArgument(os.Args[2])
		seen, err := os.ReadFile("/proc/self/cmdline")
		fmt.Printf("%s %q %v", kept, seen, err)
		return
	}
	os.Exit(m.Run())
}

func TestHideArgument_HidesArgumentFromProc(t *testing.T) {
	const secret = "plinth1-c2VjcmV0"
	out, err := exec.CommandContext(t.Context(), os.Args[0], "hide", secret).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if want := secret + ` "` + os.Args[0] + `\x00hide\x00` + strings.Repeat("x", len(secret)) + `\x00" <nil>`; string(out) != want {
		t.Errorf("%s, want %s", out, want)
	}
	if got := HideArgument("is not an argument"); got != "is not an argument" {
		t.Error(got)
	}
}
