package spec_test

import (
	"os"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/spec"
)

func TestDiff_NamesTheFields(t *testing.T) {
	raw, err := os.ReadFile("../../installer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	parse := func(t *testing.T, replace ...string) *spec.Installer {
		t.Helper()
		in, findings := spec.ParseInstaller("installer.yaml", []byte(strings.NewReplacer(replace...).Replace(string(raw))))
		if in == nil {
			t.Fatal(findings)
		}
		return in
	}
	for name, c := range map[string]struct {
		replace []string
		want    string
	}{
		"the same":       {nil, ""},
		"a port":         {[]string{"uiBindPort: 8800", "uiBindPort: 8801"}, "spec.kotsadm.uiBindPort was 8800 and is now 8801"},
		"a default":      {[]string{"    uiBindPort: 8800", "#"}, ""},
		"a network":      {[]string{"podCIDR: 10.244.0.0/16", "podCIDR: 10.245.0.0/16"}, `spec.network.podCIDR was "10.244.0.0/16" and is now "10.245.0.0/16"`},
		"an add-on":      {[]string{"  registry:", "  # registry:", "    version: 3.1.2", ""}, "spec.registry.version is missing"},
		"a secret value": {[]string{"spec:\n", "spec:\n  proxy: {httpsProxy: 'http://me:hunter22@proxy:3128'}\n"}, "spec.proxy.httpsProxy differs"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := spec.Diff(parse(t), parse(t, c.replace...))
			if err != nil || strings.Join(got, "; ") != c.want {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}
