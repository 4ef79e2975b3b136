package desired

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/host"
)

// vendorKeyFile is the file in BundleCacheDir with the vendor's public key in PEM.
const vendorKeyFile = "vendor.pub"

// VendorSignature is the vendor's signature of a bundle's index, with the key that
// verifies it. It is zero for a bundle that --allow-unsigned accepted.
type VendorSignature struct {
	Signature []byte // DER
	Key       trust.PublicKey
}

// cacheFiles returns the files that a node keeps beside the index, by path in
// BundleCacheDir. Without a signature both are nil: files of an earlier, signed bundle
// must not remain.
func (v VendorSignature) cacheFiles() map[string][]byte {
	if v.Key.IsZero() {
		return map[string][]byte{format.SignatureEntry: nil, vendorKeyFile: nil}
	}
	return map[string][]byte{format.SignatureEntry: v.Signature, vendorKeyFile: v.Key.PEM()}
}

// ReadVendorSignature returns what this node keeps beside the index of its bundle. It
// does not verify the signature: hosts that join do.
func ReadVendorSignature(h host.Host, dataDir string) (v VendorSignature, err error) {
	keyPath := path.Join(BundleCacheDir(dataDir), vendorKeyFile)
	raw, err := h.ReadFile(keyPath)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err != nil {
		return v, err
	}
	if v.Key, err = trust.ParsePublicKey(raw); err != nil {
		return v, fmt.Errorf("cannot read the vendor's key in %s: %w", keyPath, err)
	}
	v.Signature, err = h.ReadFile(path.Join(BundleCacheDir(dataDir), format.SignatureEntry))
	return v, err
}
