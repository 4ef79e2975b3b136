//go:build e2e

package e2e

import (
	"context"
	"os"
	"regexp"
	"testing"

	"github.com/plinthdev/plinth/e2e/lab"
)

// shellBlock matches a block of the README that is marked as shell commands; blocks
// that only illustrate are marked as text.
var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// checkReadmeCommands runs the shell blocks of the README, in their order and as they
// are printed, in a folder with the files that the README names. The last block
// uninstalls Plinth.
func checkReadmeCommands(t *testing.T, ctx context.Context, h *lab.Host) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := shellBlock.FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 4 {
		t.Fatalf("the README has %d shell blocks", len(blocks))
	}
	d, err := prepareShipment()
	if err != nil {
		t.Fatal(err)
	}
	const dir = "/srv/readme"
	h.MustRun(ctx, "mkdir", "-p", dir)
	for name, file := range map[string]string{"my-plinth": d.program, "my-app.bundle": d.bundle, "vendor.pub": d.key, "vendor.key": privateKey(d),
		"installer.yaml": "../installer.yaml", "application.yaml": "testdata/application.yaml"} {
		h.Copy(file, dir+"/"+name)
	}
	for _, b := range blocks {
		out, errs, code := h.Run(ctx, "bash", "-euo", "pipefail", "-c", "cd "+dir+"\n"+b[1])
		if code != 0 {
			t.Fatalf("exit %d of\n%s\n%s\n%s", code, b[1], lastLines(out, 20), lastLines(errs, 20))
		}
	}
	h.MustRun(ctx, "rm", "-r", dir)
}
