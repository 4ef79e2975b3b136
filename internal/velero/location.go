package velero

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/wait"
)

// The names by which the console finds the location and its credentials (KOTS 1.131.2, pkg/snapshot/store.go).
const (
	locationName      = "default"
	credentialsSecret = "cloud-credentials"
	credentialsKey    = "cloud"
)

// Location is where Velero and the console keep snapshots: a bucket, or a prefix in it.
type Location struct {
	Kube      *kube.Client
	Namespace string // of Velero
	URL       string // of the store; "" for that of AWS
	Region    string
	Bucket    string
	Prefix    string // "" for the whole bucket
	CA        []byte // authority of the store's certificate, PEM; nil for those of the system
	Cloud     []byte // of Credentials; secret
	ReadOnly  bool   // Velero must not remove snapshots that have expired
}

// Credentials returns credentials as a profile of the AWS tools.
func Credentials(accessKey, secretKey string) []byte {
	return fmt.Appendf(nil, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", accessKey, secretKey)
}

// CredentialsNeeded returns the reason why PutCredentials would change something now, or "" if it would not.
func (l Location) CredentialsNeeded(ctx context.Context) (string, error) {
	secret, err := l.Kube.Secret(ctx, l.Namespace, credentialsSecret)
	if err != nil && !errors.Is(err, kube.ErrNotFound) {
		return "", err
	}
	if string(secret.Data[credentialsKey]) != string(l.Cloud) {
		return "Velero does not have the credentials of the store", nil
	}
	return "", nil
}

// PutCredentials stores the credentials. A secret that is created after Velero has started appears in its pod after a
// minute or more.
func (l Location) PutCredentials(ctx context.Context) error {
	if err := l.Kube.EnsureNamespace(ctx, l.Namespace); err != nil {
		return err
	}
	return l.Kube.PutSecret(ctx, kube.Secret{Namespace: l.Namespace, Name: credentialsSecret, Data: map[string][]byte{credentialsKey: l.Cloud}})
}

// Needed returns the reason why Ensure would change something now, or "" if it would not.
func (l Location) Needed(ctx context.Context) (string, error) {
	have, err := l.Kube.Get(ctx, locationRef(l.Namespace))
	if errors.Is(err, kube.ErrNotFound) {
		return "snapshots have no location", nil
	}
	if err != nil {
		return "", err
	}
	for _, f := range []struct {
		want string
		path []string
	}{{l.URL, []string{"config", "s3Url"}}, {l.Region, []string{"config", "region"}}, {l.Bucket, []string{"objectStorage", "bucket"}}, {l.Prefix, []string{"objectStorage", "prefix"}}} {
		if is, _, _ := unstructured.NestedString(have.Object, append([]string{"spec"}, f.path...)...); is != f.want {
			return "snapshots have another location", nil
		}
	}
	reason, err := l.needed(ctx, have)
	if err != nil || reason != "" {
		return reason, err
	}
	return LocationProblem(ctx, l.Kube, l.Namespace)
}

// needed returns how the existing location have, which is in this store, or its credentials differ from l; "" if they do not.
func (l Location) needed(ctx context.Context, have *unstructured.Unstructured) (string, error) {
	if text, _, _ := unstructured.NestedString(have.Object, "spec", "objectStorage", "caCert"); text != l.encodedCA() {
		return "the location of snapshots has another authority than the object store", nil
	}
	reason, err := l.CredentialsNeeded(ctx)
	if err != nil || reason == "" {
		return "", err
	}
	return "the location of snapshots has other credentials than the object store", nil
}

func (l Location) encodedCA() string { return base64.StdEncoding.EncodeToString(l.CA) }

// Ensure configures Velero and the console to keep snapshots in l, with the objects that `kots velero configure-aws-s3` or
// `configure-other-s3` writes, and waits until Velero reaches it.
func (l Location) Ensure(ctx context.Context, w kube.Wait) error {
	if err := l.PutCredentials(ctx); err != nil {
		return err
	}
	if err := l.Kube.Apply(ctx, l.Namespace, l.object()); err != nil {
		return err
	}
	return l.waitAvailable(ctx, w)
}

func (l Location) object() *unstructured.Unstructured {
	config, storage := map[string]any{"region": l.Region}, map[string]any{"bucket": l.Bucket}
	if l.URL != "" {
		config["s3Url"], config["s3ForcePathStyle"] = l.URL, "true"
	}
	if l.Prefix != "" {
		storage["prefix"] = l.Prefix
	}
	if len(l.CA) > 0 {
		storage["caCert"] = l.encodedCA()
	}
	spec := map[string]any{"provider": "aws", "default": true, "config": config, "objectStorage": storage}
	if l.ReadOnly {
		spec["accessMode"] = "ReadOnly"
	}
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": "BackupStorageLocation",
		"metadata": map[string]any{"name": locationName, "namespace": l.Namespace}, "spec": spec}}
}

// waitAvailable waits until Velero has reached the location.
func (l Location) waitAvailable(ctx context.Context, w kube.Wait) error {
	o := wait.Options{What: "Velero to reach the object store", Timeout: w.Timeout, NextCommand: "plinth kubectl get backupstoragelocations -n " + l.Namespace + " -o yaml",
		Diagnose: func(ctx context.Context) string { return l.Kube.Diagnose(ctx, l.Namespace, "") }}
	if w.Report != nil {
		o.OnReason = func(reason string) { w.Report(reason, 0, 0) }
	}
	return wait.Until(ctx, o, func(ctx context.Context) (bool, string, error) {
		reason, err := LocationProblem(ctx, l.Kube, l.Namespace)
		if err != nil {
			return false, err.Error(), nil
		}
		return reason == "", reason, nil
	})
}

// LocationProblem returns why the location of snapshots cannot be used, in Velero's words, or "" if it can or there is
// none. Velero checks it once a minute.
func LocationProblem(ctx context.Context, client *kube.Client, namespace string) (string, error) {
	have, err := client.Get(ctx, locationRef(namespace))
	if errors.Is(err, kube.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	phase, _, _ := unstructured.NestedString(have.Object, "status", "phase")
	message, _, _ := unstructured.NestedString(have.Object, "status", "message")
	switch {
	case phase == "Available":
		return "", nil
	case phase == "":
		return "Velero has not checked the location of snapshots yet", nil
	case message != "":
		return fmt.Sprintf("the location of snapshots is %s: %s", phase, message), nil
	}
	return "the location of snapshots is " + phase, nil
}

// IsReadOnly reports whether Velero may only read in its location.
func IsReadOnly(ctx context.Context, client *kube.Client, namespace string) (bool, error) {
	have, err := client.Get(ctx, locationRef(namespace))
	if err != nil {
		return false, err
	}
	mode, _, _ := unstructured.NestedString(have.Object, "spec", "accessMode")
	return mode == "ReadOnly", nil
}

// AllowWrites lets Velero write to its location.
func AllowWrites(ctx context.Context, client *kube.Client, namespace string) error {
	return client.Patch(ctx, locationRef(namespace), []byte(`{"spec":{"accessMode":"ReadWrite"}}`))
}

func locationRef(namespace string) kube.Object {
	return kube.Object{APIVersion: apiVersion, Kind: "BackupStorageLocation", Namespace: namespace, Name: locationName}
}
