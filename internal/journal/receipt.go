package journal

import (
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/plinthdev/plinth/internal/problem"
)

// Receipt describes the current installation on this host. status and later verbs
// use it as the source of truth.
type Receipt struct {
	Version      int               `json:"version"`                // schema version
	Name         string            `json:"name"`                   // metadata.name of the Installer
	Role         string            `json:"role"`                   // controller or worker
	Node         string            `json:"node"`                   // Kubernetes node name of this host
	MachineID    string            `json:"machineId"`              // /etc/machine-id
	Address      string            `json:"address"`                // its IP address
	API          string            `json:"api,omitempty"`          // additional name or address of the API server, of a load balancer in front of the controllers
	LoadBalancer []string          `json:"loadBalancer,omitempty"` // addresses of the load balancer that a user has chosen; none for those of the Installer
	Bundle       string            `json:"bundle"`                 // digest of the bundle's index
	Installer    string            `json:"installer"`              // digest of the Installer with defaults
	Versions     map[string]string `json:"versions"`               // by component: k0s, kotsadm, …
	Facts        string            `json:"facts,omitempty"`        // digest of the facts of this host before the first change
	Warnings     []string          `json:"warnings,omitempty"`     // checks that the user skipped or ignored
	InstalledAt  time.Time         `json:"installedAt"`            // first successful run, UTC
	UpdatedAt    time.Time         `json:"updatedAt"`              // last change, UTC
	AddOns       []AddOn           `json:"addons,omitempty"`       // in order of installation
	Console      Console           `json:"console,omitzero"`       // KOTS console; zero if there is none
	Firewall     string            `json:"firewall,omitempty"`     // networks that --configure-firewall named, "auto" for none; "" if it was not given
	Vendor       Vendor            `json:"vendor,omitzero"`        // vendor whose signed bundles this host accepts; zero before the first signed bundle
}

// Vendor identifies the vendor whose signed bundles a host accepts. The first signed bundle sets it.
type Vendor struct {
	Key         string `json:"key"`         // public key, DER in base64
	Fingerprint string `json:"fingerprint"` // "sha256:" and the digest of the DER in hex
	Release     int64  `json:"release"`     // highest accepted release number; lower ones are refused
}

// AddOn is an add-on that is installed in the cluster.
type AddOn struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	Namespace string `json:"namespace"`          // of its pods
	External  bool   `json:"external,omitempty"` // a chart of the vendor; Name is that of its release
}

// Console describes how to reach the KOTS console.
type Console struct {
	Namespace string `json:"namespace"`          // of its objects
	Slug      string `json:"slug"`               // of the application that it installs
	Port      int    `json:"port"`               // on the address of every node
	Hostname  string `json:"hostname,omitempty"` // DNS name in its URL; "" for the address of the node
}

// ReceiptFile is the name of the receipt in the data folder.
const ReceiptFile = "receipt.json"

// ReceiptPath returns the path of the receipt in the data folder dir.
func ReceiptPath(dir string) string { return filepath.Join(dir, ReceiptFile) }

// ReadReceipt reads the receipt in the data folder dir; ok is false if there is none.
// A damaged receipt and one of a newer schema version are a Problem.
func ReadReceipt(files Files, dir string) (r Receipt, ok bool, err error) {
	raw, err := files.ReadFile(ReceiptPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return Receipt{}, false, nil
	}
	if err == nil {
		r, err = ParseReceipt(raw)
	}
	if err != nil {
		return Receipt{}, false, problem.New(problem.ExitUsage, "read the receipt "+ReceiptPath(dir), err, receiptHint(ReceiptPath(dir), err))
	}
	return r, true, nil
}

// ParseReceipt returns the receipt in raw, the content of a receipt's file. It may be of another host.
func ParseReceipt(raw []byte) (r Receipt, err error) {
	var extra map[string]json.RawMessage
	if err := decodeFile(raw, &r, &extra); err != nil {
		return Receipt{}, err
	}
	return r, nil
}

// receiptHint returns what to do about the receipt at path, which cannot be read because of err.
func receiptHint(path string, err error) string {
	if errors.Is(err, errNewerSchema) {
		return newerPlinthHint
	}
	return "restore it from a backup of this host. Without a backup, move it away:\n" +
		"  mv " + path + " " + path + ".damaged\n" +
		"and run `plinth install` with the installed bundle, or `plinth join`, again, which writes a new one; or remove the cluster with `plinth reset cluster`"
}

// WriteReceipt writes r to the data folder dir.
func WriteReceipt(files Files, dir string, r Receipt) error {
	r.Version = schemaVersion
	return saveFile(files, ReceiptPath(dir), r, nil)
}
