package agent

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/testkit"
)

// etcdFiles returns the files with which the agent connects to etcd, and the key of another
// certificate.
func etcdFiles(t *testing.T) (files map[string]string, otherKey string) {
	t.Helper()
	ca, err := pki.NewCA("etcd-ca", noon)
	testkit.Must(t, err)
	pair, err := ca.IssueServerCert([]string{"127.0.0.1"}, noon)
	testkit.Must(t, err)
	other, err := ca.IssueServerCert([]string{"127.0.0.1"}, noon)
	testkit.Must(t, err)
	return map[string]string{etcd.CAPath: string(ca.Cert), etcd.CertPath: string(pair.Cert), etcd.KeyPath: string(pair.Key)}, string(other.Key)
}

// A nil *etcd.Client in an interface is not nil: the next tick would use it and end the agent.
func TestPromoteLearners_WaitsWhileClientFilesAreMissingOrHalfRenewed(t *testing.T) {
	for name, change := range map[string]func(files map[string]string, otherKey string){
		"no files":                     func(f map[string]string, _ string) { clear(f) },
		"no authority":                 func(f map[string]string, _ string) { delete(f, etcd.CAPath) },
		"no certificate":               func(f map[string]string, _ string) { delete(f, etcd.CertPath) },
		"no key":                       func(f map[string]string, _ string) { delete(f, etcd.KeyPath) },
		"an authority that is not PEM": func(f map[string]string, _ string) { f[etcd.CAPath] = "x" },
		"an empty certificate":         func(f map[string]string, _ string) { f[etcd.CertPath] = "" },
		"a certificate cut off":        func(f map[string]string, _ string) { f[etcd.CertPath] = f[etcd.CertPath][:100] },
		"the key of the next pair":     func(f map[string]string, other string) { f[etcd.KeyPath] = other },
	} {
		t.Run(name, func(t *testing.T) {
			files, otherKey := etcdFiles(t)
			change(files, otherKey)
			h := hosttest.New(t).Host()
			for path, content := range files {
				testkit.Must(t, h.Write(path, strings.NewReader(content), 0o600))
			}
			if store, err := openLearnerStore(h); err == nil || store != nil {
				t.Fatalf("%#v, %v", store, err)
			}
			ctx, stop := context.WithCancel(t.Context())
			tick, done, opened := make(chan time.Time), make(chan struct{}), 0
			go func() {
				defer close(done)
				PromoteLearners(ctx, tick, func() (LearnerStore, error) {
					opened++
					client, err := etcd.New(h) // a caller that returns the nil pointer
					return client, err
				}, func(names []string) { t.Error(names) })
			}()
			for range 3 {
				tick <- noon
			}
			stop()
			if <-done; opened != 3 {
				t.Errorf("opened %d times", opened)
			}
		})
	}
}

func TestOpenLearnerStore_ReturnsClientOfCompleteFiles(t *testing.T) {
	files, _ := etcdFiles(t)
	h := hosttest.New(t).Host()
	for path, content := range files {
		testkit.Must(t, h.Write(path, strings.NewReader(content), 0o600))
	}
	if store, err := openLearnerStore(h); err != nil || store == nil {
		t.Errorf("%v, %v", store, err)
	}
}

func TestOpenContent_ReturnsNilForMissingFile(t *testing.T) {
	if content, err := openContent(t.TempDir() + "/missing"); err == nil || content != nil {
		t.Errorf("%#v, %v", content, err)
	}
}
