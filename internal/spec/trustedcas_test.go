package spec_test

import (
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/spec"
)

func TestTrustedCAs_AreOneFile(t *testing.T) {
	in, findings := spec.ParseInstaller("trusted-cas.yaml", readFile(t, "testdata/trusted-cas.yaml").Data)
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	one := in.Spec.TrustedCAs()
	if strings.Count(one, "BEGIN CERTIFICATE") != 2 || !strings.HasSuffix(one, "-----END CERTIFICATE-----\n") {
		t.Errorf("got %q", one)
	}
	in.Spec.AdditionalTrustedCAs = append(in.Spec.AdditionalTrustedCAs, "\n"+one+"\n"+one)
	if got := in.Spec.TrustedCAs(); got != one+one+one {
		t.Errorf("got %q", got)
	}
	if got := (spec.Spec{}).TrustedCAs(); got != "" {
		t.Errorf("without any: %q", got)
	}
}

// TestLint_NamesDamagedTrustedCAs: the PEM library skips a damaged block when a good one follows.
func TestLint_NamesDamagedTrustedCAs(t *testing.T) {
	good := string(readFile(t, "testdata/trusted-cas.yaml").Data)
	first := strings.Index(good, "-----BEGIN CERTIFICATE-----")
	for name, block := range map[string]string{
		"a certificate": "-----BEGIN CERTIFICATE-----\n      !!!!\n      -----END CERTIFICATE-----\n      ",
		"a private key": "-----BEGIN PRIVATE KEY-----\n      k3y!\n      -----END PRIVATE KEY-----\n      ",
		"no end":        "-----BEGIN CERTIFICATE-----\n      AAAA\n      ",
	} {
		t.Run(name, func(t *testing.T) {
			_, findings := spec.ParseInstaller("trusted-cas.yaml", []byte(good[:first]+block+good[first:]))
			if len(findings) != 1 || !strings.Contains(findings[0].String(), "has a block that is not valid PEM") || strings.Contains(findings[0].String(), "k3y!") {
				t.Errorf("%v", findings)
			}
		})
	}
}

func TestLint_LimitsTrustedCAs(t *testing.T) {
	file := readFile(t, "testdata/trusted-cas.yaml")
	_, entry, _ := strings.Cut(string(file.Data), "additionalTrustedCAs:\n")
	for n, want := range map[int]string{49: "", 50: "has 102 certificates"} {
		_, findings := spec.ParseInstaller("trusted-cas.yaml", []byte(string(file.Data)+strings.Repeat(entry, n)))
		got := ""
		for _, f := range findings {
			got += f.String() + "\n"
		}
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%d more: %s, want %q", n, got, want)
		}
	}
}
