//go:build e2e || bench

package e2e

import (
	"context"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/e2e/lab"
)

// volumeWorkload returns a Deployment in a namespace, both with the name, whose pod has a volume of a size that it has marked for
// snapshots, and an image that is on every node.
func volumeWorkload(name, size string) string {
	return strings.NewReplacer("NAME", name, "SIZE", size).Replace(`
apiVersion: v1
kind: Namespace
metadata: {name: NAME}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: NAME}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: SIZE}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME, namespace: NAME}
spec:
  strategy: {type: Recreate}
  selector: {matchLabels: {app: NAME}}
  template:
    metadata:
      labels: {app: NAME}
      annotations: {backup.velero.io/backup-volumes: data}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: NAME
        image: docker.io/library/busybox:1.35.0
        imagePullPolicy: Never
        command: [sleep, "86400"]
        volumeMounts: [{name: data, mountPath: /data}]
      volumes:
      - name: data
        persistentVolumeClaim: {claimName: data}
`)
}

// kubectlApply applies manifests on a host.
func kubectlApply(t testing.TB, ctx context.Context, h *lab.Host, manifests string) {
	t.Helper()
	if out, errs, code := h.Start(ctx, lab.Cmd{Args: []string{binary, "kubectl", "apply", "-f", "-"}, Stdin: strings.NewReader(manifests)}).Wait(); code != 0 {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
}
