package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/util/retry"

	"github.com/plinthdev/plinth/internal/token"
)

// NodeRecord is what the cluster has admitted under the name of a node. Only the administrator's credential
// writes it; nodes may read it. Labels and addresses of the Node object are written by the node itself, so nothing
// that needs trust uses them.
type NodeRecord struct {
	Node      string    `json:"-"`
	UID       string    `json:"uid"`             // of this admission; it is in each certificate of the node
	Role      string    `json:"role"`            // token.Controller or token.Worker
	Address   string    `json:"address"`         // IP address
	MachineID string    `json:"machineId"`       // /etc/machine-id
	AgentKey  string    `json:"agentKey"`        // pin of the agent's public key (token.PublicKeyPin)
	Token     string    `json:"token,omitempty"` // ID of the join token; "" for the first host
	Admitted  time.Time `json:"admitted"`        // UTC
	Joined    bool      `json:"joined"`          // a controller: its etcd member votes, so it gets no keys any more
}

// The ConfigMap of the records has two keys for each node: its name, with the NodeRecord as JSON, and uidKey, with
// ROLE:UID, which the admission policies read. Names of nodes have no underscore.
const (
	nodeRecordsNamespace = "kube-system"
	nodeRecordsName      = "plinth-nodes"
	uidKeyPrefix         = "uid_"
)

// maxMachineID limits what a host claims, in bytes: all records share one ConfigMap of 1 MiB, which is enough for
// about 2000 nodes.
const maxMachineID = 64

func nodeRecordsRef() Object {
	return Object{APIVersion: "v1", Kind: "ConfigMap", Namespace: nodeRecordsNamespace, Name: nodeRecordsName}
}

// NodeRecords are the records of a cluster by node.
type NodeRecords map[string]NodeRecord

// Sorted returns all records, sorted by name.
func (r NodeRecords) Sorted() (all []NodeRecord) {
	for _, node := range slices.Sorted(maps.Keys(r)) {
		rec := r[node]
		rec.Node = node
		all = append(all, rec)
	}
	return all
}

// FindAdmission returns the record of a node whose certificate has a UID. The error is for users; it is the same for
// every refusal because of an admission, also in trustManifest.
func (r NodeRecords) FindAdmission(node, uid string) (NodeRecord, error) {
	rec, ok := r[node]
	switch {
	case !ok:
		return rec, fmt.Errorf("node %s was removed from the cluster or never admitted to it", node)
	case rec.UID != uid:
		return rec, fmt.Errorf("this certificate of node %s is of an earlier admission", node)
	}
	return rec, nil
}

// Controllers returns the records of controllers that have joined, sorted by name.
func (r NodeRecords) Controllers() []NodeRecord {
	return slices.DeleteFunc(r.Sorted(), func(rec NodeRecord) bool { return rec.Role != token.Controller || !rec.Joined })
}

// OtherControllers returns the addresses of the controllers that have joined, except the node self, sorted by name.
func (r NodeRecords) OtherControllers(self string) (all []netip.Addr) {
	for _, rec := range r.Controllers() {
		if a, err := netip.ParseAddr(rec.Address); err == nil && rec.Node != self {
			all = append(all, a)
		}
	}
	return all
}

// NodeRecords reads the records; none if the ConfigMap does not exist. The kubelet's credential may read them, too.
// A record that is not valid is an error, because callers must not mistake an admitted node for a free name.
func (c *Client) NodeRecords(ctx context.Context) (NodeRecords, error) {
	obj, err := c.core.ConfigMaps(nodeRecordsNamespace).Get(ctx, nodeRecordsName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return NodeRecords{}, nil
	}
	if err != nil {
		return nil, err
	}
	return parseNodeRecords(obj.Data)
}

// UpdateNodeRecords changes the records; change gets the current ones, and is called again after a conflict. It may
// return an error, which ends the update. The keys of the map are the names of the nodes; Node is not read. Nothing
// is written if the records stay the same. Both keys of a node are written in one update.
func (c *Client) UpdateNodeRecords(ctx context.Context, change func(NodeRecords) error) error {
	conflict := func(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }
	return retry.OnError(retry.DefaultBackoff, conflict, func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return c.updateNodeRecords(ctx, change)
	})
}

// updateNodeRecords tries the update once.
func (c *Client) updateNodeRecords(ctx context.Context, change func(NodeRecords) error) error {
	configMaps := c.core.ConfigMaps(nodeRecordsNamespace)
	obj, err := configMaps.Get(ctx, nodeRecordsName, metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	if missing {
		obj = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: nodeRecordsName, Namespace: nodeRecordsNamespace}}
	} else if err != nil {
		return err
	}
	records, err := parseNodeRecords(obj.Data)
	if err != nil {
		return err
	}
	if err := change(records); err != nil {
		return err
	}
	data, err := formatNodeRecords(records)
	if err != nil {
		return err
	}
	switch {
	case maps.Equal(data, obj.Data):
		return nil
	case missing:
		obj.Data = data
		_, err = configMaps.Create(ctx, obj, metav1.CreateOptions{FieldManager: fieldManager})
	default:
		obj.Data = data
		_, err = configMaps.Update(ctx, obj, metav1.UpdateOptions{FieldManager: fieldManager})
	}
	return err
}

// uidValue returns the value of the record's key for the admission policies.
func (r NodeRecord) uidValue() string { return r.Role + ":" + r.UID }

// check returns an error unless the record of node is valid.
func (r NodeRecord) check(node string) error {
	_, badAddress := netip.ParseAddr(r.Address)
	switch {
	case len(validation.IsDNS1123Subdomain(node)) > 0:
		return errors.New("its name is not the name of a node")
	case r.UID == "" || strings.ContainsFunc(r.UID, func(c rune) bool { return c <= ' ' || c > '~' || c == ':' }):
		return fmt.Errorf("uid %q is not valid", r.UID)
	case r.Role != token.Controller && r.Role != token.Worker:
		return fmt.Errorf("role %q is neither controller nor worker", r.Role)
	case badAddress != nil:
		return fmt.Errorf("address %q is not an IP address", r.Address)
	case len(uidKeyPrefix+node) > validation.DNS1123SubdomainMaxLength:
		return fmt.Errorf("its name has more than %d bytes", validation.DNS1123SubdomainMaxLength-len(uidKeyPrefix))
	case r.MachineID == "" || len(r.MachineID) > maxMachineID:
		return fmt.Errorf("machineId has not 1 to %d bytes", maxMachineID)
	}
	return nil
}

// recordError returns an error of the record of node.
func recordError(node string, err error) error {
	return fmt.Errorf("the record of node %q in %s is damaged: %w", node, nodeRecordsRef(), err)
}

// parseNodeRecords returns the records in the data of the ConfigMap.
func parseNodeRecords(data map[string]string) (NodeRecords, error) {
	records := NodeRecords{}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		if node, ok := strings.CutPrefix(key, uidKeyPrefix); ok {
			if _, ok := data[node]; !ok {
				return nil, recordError(node, fmt.Errorf("key %s has no record", key))
			}
			continue
		}
		rec := NodeRecord{Node: key}
		err := decodeRecord(data[key], &rec)
		if err == nil {
			err = rec.check(key)
		}
		if uid := data[uidKeyPrefix+key]; err == nil && uid != rec.uidValue() {
			err = fmt.Errorf("key %s is %q instead of %q", uidKeyPrefix+key, uid, rec.uidValue())
		}
		if err != nil {
			return nil, recordError(key, err)
		}
		records[key] = rec
	}
	return records, nil
}

// decodeRecord decodes one JSON object without unknown fields.
func decodeRecord(text string, rec *NodeRecord) error {
	if !json.Valid([]byte(text)) { // Decode would ignore what follows the object
		return errors.New("it is not JSON")
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(rec)
}

// formatNodeRecords returns the data of the ConfigMap.
func formatNodeRecords(records NodeRecords) (map[string]string, error) {
	data := map[string]string{}
	for node, rec := range records {
		if err := rec.check(node); err != nil {
			return nil, fmt.Errorf("cannot record node %q: %w", node, err)
		}
		text, err := json.Marshal(rec)
		if err != nil {
			return nil, err
		}
		data[node], data[uidKeyPrefix+node] = string(text), rec.uidValue()
	}
	return data, nil
}
