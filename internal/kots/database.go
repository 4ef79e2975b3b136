package kots

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/wait"
)

// Address and user of the console's database (KOTS 1.131.2, deploy/assets/backup.sh).
const (
	databasePort = "4001"
	databaseUser = "kotsadm"
)

// databaseTimeout is how long a backup of the database or its load may take; the database has some megabytes.
const databaseTimeout = 5 * time.Minute

// errDatabaseBusy is returned while the database writes another backup: controllers save it at the same time.
var errDatabaseBusy = errors.New("it writes another backup")

// loadPath is the path of the database at which it loads a backup.
const loadPath = "/db/load"

// busyText is in the response of rqlite while it writes another backup (rqlite 8.43.4, internal/rsync: ErrCASConflict).
const busyText = "CAS conflict"

// BackupDatabase returns a backup of the console's database, a file of SQLite. It contains secrets. Of several backups at the
// same time, one waits for the other.
func (k *Client) BackupDatabase(ctx context.Context) (backup io.ReadCloser, err error) {
	o := wait.Options{What: "the console's database to be free for a backup", Timeout: databaseTimeout, Interval: time.Second,
		NextCommand: "sudo plinth kubectl logs -n " + k.Namespace + " " + DatastoreName + "-0"}
	err = wait.Until(ctx, o, func(context.Context) (bool, string, error) { // the caller still reads from the response
		resp, err := k.requestDatabase(ctx, http.MethodGet, "/db/backup", nil, 0)
		if errors.Is(err, errDatabaseBusy) {
			return false, err.Error(), nil
		}
		if err != nil {
			return false, "", err
		}
		backup = resp.Body
		return true, "", nil
	})
	return backup, err
}

// LoadDatabase replaces the content of the console's database with a backup of size bytes.
func (k *Client) LoadDatabase(ctx context.Context, backup io.Reader, size int64) error {
	resp, err := k.requestDatabase(ctx, http.MethodPost, loadPath, backup, size)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// WaitDatabase waits until the console's database serves requests. The console need not run.
func (k *Client) WaitDatabase(ctx context.Context, w kube.Wait) error {
	rqlite, _, _ := k.consoleObjects()
	return k.Kube.WaitWorkloads(ctx, w, rqlite)
}

// requestDatabase sends a request to the database at the address of its service, which every
// controller reaches.
func (k *Client) requestDatabase(ctx context.Context, method, path string, body io.Reader, size int64) (*http.Response, error) {
	secret, err := k.Kube.Secret(ctx, k.Namespace, DatastoreName)
	if err != nil {
		return nil, fmt.Errorf("secret %s/%s: %w", k.Namespace, DatastoreName, err)
	}
	service, err := k.Kube.Get(ctx, kube.Object{APIVersion: "v1", Kind: "Service", Namespace: k.Namespace, Name: DatastoreName})
	if err != nil {
		return nil, fmt.Errorf("service %s/%s: %w", k.Namespace, DatastoreName, err)
	}
	ip, _, _ := unstructured.NestedString(service.Object, "spec", "clusterIP")
	req, err := http.NewRequestWithContext(ctx, method, "http://"+net.JoinHostPort(ip, cmp.Or(k.databasePort, databasePort))+path, body)
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(databaseUser, string(secret.Data["password"]))
	if body != nil {
		req.ContentLength = size
		req.Header.Set("Content-Type", "application/octet-stream")
		if path != loadPath {
			req.Header.Set("Content-Type", "application/json")
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: databaseTimeout} // without a proxy
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the console's database: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // only for the message
		if strings.Contains(string(text), busyText) {
			return nil, errors.Join(fmt.Errorf("the console's database: %w", errDatabaseBusy), resp.Body.Close())
		}
		return nil, errors.Join(fmt.Errorf("the console's database returned %s: %s", resp.Status, text), resp.Body.Close())
	}
	return resp, nil
}

// RestartConsole starts the console's pod again and waits until the new one is Ready: the console keeps
// some of the database's content in memory.
func (k *Client) RestartConsole(ctx context.Context, w kube.Wait) error {
	pod := kube.Object{APIVersion: "v1", Kind: "Pod", Namespace: k.Namespace, Name: ConsolePod}
	old, err := k.Kube.Get(ctx, pod)
	if err != nil && !errors.Is(err, kube.ErrNotFound) {
		return err
	}
	if err := k.Kube.Delete(ctx, pod); err != nil {
		return err
	}
	o := wait.Options{What: "the console to start again", Timeout: w.Timeout, Interval: time.Second, Diagnose: w.Diagnose, NextCommand: "sudo plinth kubectl get pods -n " + k.Namespace}
	return wait.Until(ctx, o, func(ctx context.Context) (bool, string, error) {
		now, err := k.Kube.Get(ctx, pod)
		if err != nil {
			return false, err.Error(), nil
		}
		reason := restartReason(old, now)
		return reason == "", reason, nil
	})
}

// restartReason returns why the pod now is not a Ready one that has replaced old, nil for none; "" if it is.
func restartReason(old, now *unstructured.Unstructured) string {
	if old != nil && old.GetUID() == now.GetUID() {
		return "the old pod " + now.GetName() + " still runs"
	}
	if !isReady(now) {
		return "the pod " + now.GetName() + " is not Ready"
	}
	return ""
}
