package join

import (
	"bytes"
	"encoding/pem"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestRegistryFiles_DerivesPathsFromTheInstaller(t *testing.T) {
	raw, err := os.ReadFile("../../../installer.yaml")
	testkit.Must(t, err)
	with, _ := spec.ParseInstaller("installer.yaml", raw)
	without, _ := spec.ParseInstaller("installer.yaml", raw)
	without.Spec.Registry = nil
	_, ca := authority(t)
	for name, c := range map[string]struct {
		installer *spec.Installer
		ca        []byte
		want      string // in the error; "" for none
	}{
		"a certificate":        {with, ca, ""},
		"text around":          {with, slices.Concat([]byte("registry\n"), ca), ""},
		"not installed yet":    {with, nil, ""},
		"text":                 {with, []byte("server = \"https://evil.example.com\""), "other text than certificates"},
		"text after":           {with, slices.Concat(ca, []byte("x")), "other text than certificates"},
		"a key":                {with, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), "other text than certificates"},
		"no certificate in it": {with, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), "cannot use the certificate"},
		"white space":          {with, []byte(" \n"), "no certificate"},
		"too long":             {with, bytes.Repeat(ca, 1+maxRegistryCA/len(ca)), "the maximum is 65536"},
		"no registry":          {without, ca, "its Installer has none"},
	} {
		t.Run(name, func(t *testing.T) {
			files, err := (&operation{installer: c.installer}).registryFiles("/var/lib/plinth", c.ca)
			if c.want != "" {
				if problem.ExitCode(err) != problem.ExitJoin || !strings.Contains(err.Error(), c.want) || len(files) > 0 {
					t.Errorf("%v, want %q", err, c.want)
				}
				return
			}
			if err != nil || len(files) != 0 != (c.ca != nil) {
				t.Fatalf("%v, %v", files, err)
			}
			for p, data := range files {
				if path.Dir(path.Dir(p)) != k0s.RegistryDir || path.Base(p) == "ca.crt" && !bytes.Equal(data, ca) {
					t.Errorf("%s: %s", p, data)
				}
			}
		})
	}
}
