package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"testing"

	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

func TestDescribe_CarriesWhatTheNodeKeepsOfTheVendor(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	testkit.Must(t, err)
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	testkit.Must(t, err)
	key, err := trust.ParsePublicKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	testkit.Must(t, err)

	c := newTestCluster(t)
	info, err := c.describe(t.Context(), token.Record{Role: token.Worker})
	if err != nil || info.Bundle != c.bundle || info.Role != token.Worker || len(info.VendorKey)+len(info.Signature) != 0 {
		t.Errorf("unsigned: %+v, %v", info, err)
	}
	receipt, _, err := journal.ReadReceipt(c.Host, c.DataDir)
	testkit.Must(t, err)
	receipt.LoadBalancer = []string{"10.0.0.240/29"}
	testkit.Must(t, journal.WriteReceipt(c.Host, c.DataDir, receipt))
	c.keep(t, "vendor.pub", string(key.PEM()))
	c.keep(t, "index.json.sig", "signature")
	info, err = c.describe(t.Context(), token.Record{Role: token.Worker})
	if err != nil || string(info.VendorKey) != string(key.PEM()) || string(info.Signature) != "signature" || !slices.Equal(info.LoadBalancer, receipt.LoadBalancer) {
		t.Errorf("signed: %+v, %v", info, err)
	}
	c.keep(t, "vendor.pub", "text")
	if _, err := c.describe(t.Context(), token.Record{Role: token.Worker}); err == nil {
		t.Error("a damaged key is not reported")
	}
}
