package join

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/source"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/token"
)

// maxVendorKey is the maximum size of a vendor's key in PEM, in bytes.
const maxVendorKey = 4 << 10

// noVendorKey is the name of a missing key in messages.
const noVendorKey = "none (--allow-unsigned)"

// verifyClusterInfo returns an error unless the cluster's answer is the one that the
// token is for: the token alone decides which bundle, configuration and vendor this
// host accepts. embedded is the key in this executable, zero for none.
func (o *operation) verifyClusterInfo(embedded trust.PublicKey) error {
	info, t := o.clusterInfo, o.token
	var differences []string
	compare := func(what, answered, want string) {
		if answered != want {
			differences = append(differences, fmt.Sprintf("%s is %s instead of %s", what, shorten(answered), want))
		}
	}
	compare("the cluster's name", info.Cluster, t.Cluster)
	compare("the role of the token", info.Role, t.Role)
	compare("the bundle", info.Bundle.String(), t.Bundle)
	compare("the digest of the configuration that all hosts share", desired.SharedConfigDigest(info.Fields), t.SharedConfig)
	if !isAuthority(info.CA, t.Pin) {
		differences = append(differences, "the cluster's certificate authority is not the one with the token's pin")
	}
	key, err := parseVendorKey(info.VendorKey)
	switch {
	case err != nil:
		differences = append(differences, "the vendor's key is unusable: "+err.Error())
	case key.Fingerprint() != t.VendorKey:
		compare("the vendor's key", describeKey(key.Fingerprint()), describeKey(t.VendorKey))
	}
	if len(differences) > 0 {
		return o.refuseAnswer(errors.New("the cluster's answer differs from the token: " + strings.Join(differences, "; ")))
	}
	if !embedded.IsZero() && !embedded.Equal(key) {
		return refuseJoin(fmt.Errorf("the key embedded in this executable, %s, is not the vendor's key of the cluster: %s", embedded.Fingerprint(), describeKey(key.Fingerprint())),
			"use the executable that the vendor ships with the cluster's bundle, or a plinth of the same version without an embedded key")
	}
	o.vendor = desired.VendorSignature{Signature: info.Signature, Key: key}
	if key.IsZero() {
		o.vendor.Signature = nil // nothing verifies it
	}
	return nil
}

// refuseAnswer returns the problem of an answer that the token does not announce.
func (o *operation) refuseAnswer(err error) error {
	return refuseJoin(err, "the cluster or its plinth was upgraded after the token was created, or the answer comes from another cluster; "+
		"create a new token on a controller: sudo plinth token create --role "+o.token.Role)
}

// shorten returns at most the first 200 bytes of a text that the cluster sent.
func shorten(text string) string {
	if len(text) > 200 {
		return text[:200] + "…"
	}
	return text
}

func describeKey(fingerprint string) string {
	if fingerprint == "" {
		return noVendorKey
	}
	return fingerprint
}

// parseVendorKey returns the key in raw; the zero key if raw is empty.
func parseVendorKey(raw []byte) (trust.PublicKey, error) {
	switch {
	case len(raw) == 0:
		return trust.PublicKey{}, nil
	case len(raw) > maxVendorKey:
		return trust.PublicKey{}, fmt.Errorf("it has %d bytes, a key has at most %d", len(raw), maxVendorKey)
	}
	return trust.ParsePublicKey(raw)
}

// isAuthority reports whether raw is one certificate in PEM whose key has the pin.
func isAuthority(raw []byte, pin string) bool {
	block, rest := pem.Decode(raw)
	if block == nil || len(strings.TrimSpace(string(rest))) > 0 {
		return false
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	return err == nil && token.PublicKeyPin(ca) == pin
}

// verifyBundle returns an error unless index is the content of the index.json for which
// the token was created, and the vendor of the cluster signed it. It parses nothing.
func (o *operation) verifyBundle(index []byte) error {
	if have := digest.FromBytes(index).String(); have != o.token.Bundle {
		o.mismatches = [][3]string{{"bundle", have, o.token.Bundle}}
		return refuseJoin(fmt.Errorf("the bundle on this host differs from the cluster's: it is %s instead of %s", have, o.token.Bundle),
			"omit --bundle to use the bundle of the cluster, or use the bundle with which the cluster was installed; if the cluster was upgraded to it, create a new token on a controller: sudo plinth token create --role "+o.token.Role)
	}
	if o.vendor.Key.IsZero() { // verifyClusterInfo: the token says that the cluster accepted it unsigned
		return nil
	}
	if s := o.vendor.Signature; len(s) > limit.Signature || !o.vendor.Key.Verify(index, s) {
		return o.refuseAnswer(fmt.Errorf("the cluster's signature of the bundle is not valid for the vendor's key %s", o.vendor.Key.Fingerprint()))
	}
	return nil
}

// vendorRecord returns what the receipt records of the bundle's vendor. A bundle without
// a verified vendor does not change it, as with an install.
func (o *operation) vendorRecord() journal.Vendor {
	if o.vendor.Key.IsZero() {
		return o.receipt.Vendor
	}
	return source.VendorRecord(trust.Result{Pin: trust.Pin{Key: o.vendor.Key, Release: max(o.bundle.Release(), o.receipt.Vendor.Release)}})
}
