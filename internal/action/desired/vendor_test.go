package desired

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"path"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestReadVendorSignature_ReturnsWhatTheCacheKeeps(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	testkit.Must(t, err)
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	testkit.Must(t, err)
	key, err := trust.ParsePublicKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	testkit.Must(t, err)
	for name, c := range map[string]struct {
		kept   map[string][]byte
		signed bool
		want   string // in the error; "" for none
	}{
		"nothing":      {nil, false, ""},
		"unsigned":     {VendorSignature{Signature: []byte("sig")}.cacheFiles(), false, ""},
		"signed":       {VendorSignature{[]byte("sig"), key}.cacheFiles(), true, ""},
		"no signature": {map[string][]byte{vendorKeyFile: key.PEM()}, false, "index.json.sig"},
		"no key":       {map[string][]byte{vendorKeyFile: []byte("x")}, false, "cannot read the vendor's key in /var/lib/plinth/bundle/vendor.pub"},
	} {
		t.Run(name, func(t *testing.T) {
			h := hosttest.New(t).Host()
			for p, content := range c.kept {
				if content != nil {
					testkit.Must(t, h.Write(path.Join(BundleCacheDir(dataDir), p), bytes.NewReader(content), 0o600))
				}
			}
			v, err := ReadVendorSignature(h, dataDir)
			switch {
			case c.want != "":
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v", err)
				}
			case err != nil || v.Key.Equal(key) != c.signed || string(v.Signature) == "sig" != c.signed:
				t.Errorf("%+v, %v", v, err)
			}
		})
	}
}
