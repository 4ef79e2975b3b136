// Command toyapp writes the application of the end-to-end tests into a folder: toy.airgap, and
// license.yaml, KOTS's own test license, which is valid for it. `make demo-app` installs them.
//
//	toyapp PAYLOAD DIR
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/plinthdev/plinth/e2e/testapp"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cannot write the toy application:", err)
		os.Exit(1)
	}
}

// run writes the files; args are the payload's folder and the folder to write to.
func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: toyapp PAYLOAD DIR")
	}
	const shell = "docker.io/library/busybox:1.35.0" // part of every payload
	image, err := testapp.LoadImage(args[0], shell)
	if err != nil {
		return err
	}
	release := testapp.Release{VersionLabel: "1.0.0", Cursor: 1, TargetKOTS: "1.131.2", ImageRef: shell, Image: image}
	if err := release.WriteFile(filepath.Join(args[1], "toy.airgap")); err != nil {
		return err
	}
	license, err := testapp.License()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(args[1], "license.yaml"), license, 0o600)
}
