package journal

import (
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/plinthdev/plinth/internal/problem"
)

// Receipt says what is installed on this host now; status and later verbs
// take it as the source of truth.
type Receipt struct {
	Version   int               `json:"version"`            // schema version
	Name      string            `json:"name"`               // the Installer's metadata.name
	Role      string            `json:"role"`               // controller or worker
	Node      string            `json:"node"`               // Kubernetes node name of this host
	Address   string            `json:"address"`            // its IP address
	API       string            `json:"api,omitempty"`      // further name or address of the cluster's API, of a balancer before the controllers
	Bundle    string            `json:"bundle"`             // digest of the bundle's index
	Installer string            `json:"installer"`          // digest of the Installer, defaults filled in
	Versions  map[string]string `json:"versions"`           // by component: k0s, kotsadm, …
	Facts     string            `json:"facts,omitempty"`    // digest of what was found on this host before it was changed
	Warnings  []string          `json:"warnings,omitempty"` // checks that were skipped or ignored on request
	Installed time.Time         `json:"installed"`          // first success, UTC
	Updated   time.Time         `json:"updated"`            // latest change, UTC
	AddOns    []AddOn           `json:"addons,omitempty"`   // in the order of installation
	Console   Console           `json:"console,omitzero"`   // the KOTS console; zero when there is none
	Vendor    Vendor            `json:"vendor,omitzero"`    // whose signed bundles this host takes; zero before the first
}

// Vendor is the vendor whose signed bundles a host takes, pinned by the first.
type Vendor struct {
	Key         string `json:"key"`         // public key, DER in base64
	Fingerprint string `json:"fingerprint"` // sha256: and the hex digest of that DER
	Release     int64  `json:"release"`     // the highest accepted; older ones are refused
}

// AddOn is a component that was installed into the cluster.
type AddOn struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	Namespace string `json:"namespace"` // where its pods run
}

// Console says where the KOTS console is.
type Console struct {
	Namespace string `json:"namespace"`          // of its objects
	Slug      string `json:"slug"`               // of the application it installs
	Port      int    `json:"port"`               // on every node's address
	Hostname  string `json:"hostname,omitempty"` // DNS name for its URL; "" for the node's address
}

// ReceiptFile is the receipt's name in the data folder.
const ReceiptFile = "receipt.json"

// receiptPath is where the receipt lies below a data folder.
func receiptPath(dir string) string { return filepath.Join(dir, ReceiptFile) }

// ReadReceipt reads the receipt below dir; ok is false when there is none.
func ReadReceipt(files Files, dir string) (r Receipt, ok bool, err error) {
	raw, err := files.ReadFile(receiptPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return Receipt{}, false, nil
	}
	var extra map[string]json.RawMessage
	if err == nil {
		err = decode(raw, &r, &extra)
	}
	if err != nil {
		return Receipt{}, false, problem.New(problem.ExitInternal, "read the receipt "+receiptPath(dir), err, "run install again with the bundle that was installed to write it anew")
	}
	return r, true, nil
}

// WriteReceipt writes the receipt below dir.
func WriteReceipt(files Files, dir string, r Receipt) error {
	r.Version = version
	return save(files, receiptPath(dir), r, nil)
}
