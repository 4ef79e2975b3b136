package cli

import (
	"strings"
	"testing"
)

func TestRunCommandLine_NeverPrintsSecretsOfItsArguments(t *testing.T) {
	const secret = "p4ssw0rd"
	for name, args := range map[string][]string{
		"a source":               {"preflight", "--quick", "--source", "http://u:" + secret + "@127.0.0.1:99999/x"},
		"a source with a space":  {"preflight", "--quick", "--source", "http://u:" + secret + " x@127.0.0.1:99999/x"},
		"a source with bad port": {"preflight", "--quick", "--source=http://u:" + secret + "@127.0.0.1:x/x"},
		"a build's source":       {"bundle", "build", "--installer", "../../installer.yaml", "--source", "http://u:" + secret + "@h/x", "--output-file", "x"},
		"a token too many":       {"join", "--plan", "-", "plinth1-10-abc-" + secret},
		"a query of a bucket":    {"backup", "list", "s3://bucket/x?secret=" + secret},
		"a query after a bucket": {"backup", "list", "s3://bucket?secret=" + secret},
		"a fragment of a bucket": {"backup", "verify", "S3://bucket/x#" + secret},
		"keys of a bucket":       {"backup", "list", "s3://AKIA:" + secret + "@bucket/x"},
		"a key with a slash":     {"backup", "list", "s3://AKIA:a/" + secret + "@bucket/x"},
		"a target with a query":  {"backup", "--unencrypted", "--to=s3://bucket/x?secret=" + secret},
		"a snapshot with keys":   {"restore", "--from", "s3://AKIA:" + secret + "@bucket/x?a=" + secret},
		"an unknown command":     {"http://u:" + secret + "@h"},
	} {
		for _, format := range []string{"text", "json"} {
			t.Run(name+" in "+format, func(t *testing.T) {
				code, out, errs := runPlinth(t, append([]string{"-o", format}, args...)...)
				if code == 0 || strings.Contains(out+errs, secret) {
					t.Errorf("exit %d\n%s\n%s", code, out, errs)
				}
			})
		}
	}
}
