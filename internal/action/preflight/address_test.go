package preflight

import (
	"encoding/pem"
	"net/http/httptest"
	"testing"

	"github.com/plinthdev/plinth/internal/problem"
)

func TestValidateAPIAddress_AcceptsKnownNamesAndIPAddresses(t *testing.T) {
	for address, want := range map[string]int{
		"10.0.0.100": 0, "fd00::1": 0, "localhost": 0,
		"api.example.com:6443": problem.ExitUsage, "https://api.example.com": problem.ExitUsage, "a b": problem.ExitUsage, "10.0.0.1:6443": problem.ExitUsage,
		"no-such-host.invalid": problem.ExitPreflight,
	} {
		t.Run(address, func(t *testing.T) {
			if err := ValidateAPIAddress(t.Context(), "install", address); err == nil && want != 0 || err != nil && problem.ExitCode(err) != want {
				t.Errorf("%v, want exit code %d", err, want)
			}
		})
	}
}

func TestCheckAPIReachable_RefusesWhenNoAPIAnswers(t *testing.T) {
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if CheckAPIReachable(t.Context(), "192.0.2.1", []byte("no PEM")) == nil || CheckAPIReachable(t.Context(), "127.0.0.99", ca) == nil {
		t.Error("an address without a server is accepted as the API")
	}
}
