package k0s

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/token"
)

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

var clusterCA = sync.OnceValue(func() pki.Pair {
	ca, err := pki.NewClusterCA(now)
	if err != nil {
		panic(err)
	}
	return ca
})

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// newKubeletIdentity returns what a cluster with the authority ca issues for the node w1.
func newKubeletIdentity(ca pki.Pair, uid string) KubeletIdentity {
	id := nodecert.Identity{Node: "w1", UID: uid, Role: token.Worker, Address: "192.0.2.21"}
	issue := func(kind nodecert.Kind) (cert, key []byte) {
		private := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		cert = must(nodecert.Sign(kind, id, must(nodecert.NewRequest(kind, id, private)), ca, now))
		return cert, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: must(x509.MarshalECPrivateKey(private))})
	}
	k := KubeletIdentity{Node: id.Node, CA: ca.Cert}
	k.ClientCert, k.ClientKey = issue(nodecert.KubeletClient)
	k.ServingCert, k.ServingKey = issue(nodecert.KubeletServing)
	return k
}

func TestEnsureCA_CreatesOnceAndKeeps(t *testing.T) {
	h := hosttest.New(t).Host()
	if err := h.Write(CAKeyPath, strings.NewReader("of a run that was killed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := EnsureCA(h, now); err != nil {
		t.Fatal(err)
	}
	first := must(h.ReadFile(CACertPath))
	if _, err := tls.X509KeyPair(first, must(h.ReadFile(CAKeyPath))); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]fs.FileMode{pkiDir: 0o751, CAKeyPath: 0o600, CACertPath: 0o644} {
		if got := must(h.Lstat(path)).Mode().Perm(); got != want {
			t.Errorf("%s has mode %o", path, got)
		}
	}
	if err := EnsureCA(h, now); err != nil || string(must(h.ReadFile(CACertPath))) != string(first) {
		t.Errorf("the authority was replaced: %v", err)
	}
}

func TestEnsureCA_KeepsCertificateWithoutItsKey(t *testing.T) {
	for name, key := range map[string]string{"missing": "", "of another authority": string(must(pki.NewClusterCA(now)).Key)} {
		t.Run(name, func(t *testing.T) {
			h := hosttest.New(t).Host()
			if err := h.Write(CACertPath, strings.NewReader(string(clusterCA().Cert)), 0o644); err != nil {
				t.Fatal(err)
			}
			if key != "" {
				if err := h.Write(CAKeyPath, strings.NewReader(key), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := EnsureCA(h, now); err == nil {
				t.Error("no error")
			}
			if string(must(h.ReadFile(CACertPath))) != string(clusterCA().Cert) {
				t.Error("the certificate was replaced")
			}
		})
	}
}

// kubeletUID returns the UID in the kubelet's client certificate.
func kubeletUID(h host.Files) (string, error) {
	leaf, err := readPair(h, KubeletClientCertPath)
	if err != nil {
		return "", err
	}
	_, uid, _ := nodecert.KubeletUID(leaf)
	return uid, nil
}

func TestPlaceKubeletIdentity_IsWhatKubeletReads(t *testing.T) {
	h := hosttest.New(t).Host()
	if why, err := KubeletIdentityNeeded(h); why != KubeletConf+" is missing" || err != nil {
		t.Errorf("%q %v", why, err)
	}
	if _, err := kubeletUID(h); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	uid := nodecert.NewUID()
	if err := PlaceKubeletIdentity(h, newKubeletIdentity(clusterCA(), uid), now); err != nil {
		t.Fatal(err)
	}
	if why, err := KubeletIdentityNeeded(h); why != "" || err != nil {
		t.Errorf("%q %v", why, err)
	}
	if got, err := kubeletUID(h); got != uid || err != nil {
		t.Errorf("%q %v", got, err)
	}
	conf, err := clientcmd.Load(must(h.ReadFile(KubeletConf)))
	if err != nil {
		t.Fatal(err)
	}
	cluster, user := conf.Clusters[conf.Contexts[conf.CurrentContext].Cluster], conf.AuthInfos[conf.Contexts[conf.CurrentContext].AuthInfo]
	if cluster.Server != "https://127.0.0.1:6443" || string(cluster.CertificateAuthorityData) != string(clusterCA().Cert) ||
		user.ClientCertificate != KubeletClientCertPath || user.ClientKey != KubeletClientCertPath {
		t.Errorf("%+v %+v", cluster, user)
	}
	want := []string{"kubelet-client-2026-11-01-12-00-00.pem", "kubelet-client-current.pem", "kubelet-server-2026-11-01-12-00-00.pem", "kubelet-server-current.pem"}
	if got := names(t, h, KubeletPKIDir); !slices.Equal(got, want) {
		t.Error(got)
	}
	for path, want := range map[string]fs.FileMode{KubeletConf: 0o600, kubeletDir: fs.ModeDir | 0o755, KubeletPKIDir: fs.ModeDir | 0o755,
		KubeletPKIDir + "/" + want[0]: 0o600, KubeletPKIDir + "/" + want[2]: 0o600, KubeletClientCertPath: fs.ModeSymlink | 0o777, KubeletCertPath: fs.ModeSymlink | 0o777} {
		if got := must(h.Lstat(path)).Mode(); got != want {
			t.Errorf("%s has mode %s", path, got)
		}
	}
	later := nodecert.NewUID()
	if err := PlaceKubeletIdentity(h, newKubeletIdentity(clusterCA(), later), now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got, err := kubeletUID(h); got != later || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

func names(t *testing.T, h host.Files, dir string) (all []string) {
	t.Helper()
	for _, e := range must(h.ReadDir(dir)) {
		all = append(all, e.Name())
	}
	return all
}

// failingFiles fails at the write or link number failAt.
type failingFiles struct {
	IdentityFiles
	n, failAt int
}

var errFull = errors.New("no space")

func (f *failingFiles) fail() bool { f.n++; return f.n == f.failAt }

func (f *failingFiles) Write(path string, r io.Reader, perm fs.FileMode) error {
	if f.fail() {
		return errFull
	}
	return f.IdentityFiles.Write(path, r, perm)
}

func (f *failingFiles) Symlink(target, path string) error {
	if f.fail() {
		return errFull
	}
	return f.IdentityFiles.Symlink(target, path)
}

func TestPlaceKubeletIdentity_IsRepeatedAfterFailure(t *testing.T) {
	for failAt := 1; failAt <= 5; failAt++ {
		t.Run(fmt.Sprintf("at write %d", failAt), func(t *testing.T) {
			h := hosttest.New(t).Host()
			if err := PlaceKubeletIdentity(&failingFiles{h, 0, failAt}, newKubeletIdentity(clusterCA(), "first"), now); !errors.Is(err, errFull) {
				t.Fatal(err)
			}
			if why, err := KubeletIdentityNeeded(h); why == "" || err != nil {
				t.Errorf("complete after a failure: %v", err)
			}
			if (Service{Host: h, Worker: true}).Joined() {
				t.Error("the host counts as a member")
			}
			if err := PlaceKubeletIdentity(h, newKubeletIdentity(clusterCA(), "second"), now.Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			if got, err := kubeletUID(h); got != "second" || err != nil {
				t.Errorf("%q %v", got, err)
			}
			if got := names(t, h, KubeletPKIDir); len(got) != 4 {
				t.Errorf("keys of the failed call are left: %v", got)
			}
		})
	}
}

func TestPlaceKubeletIdentity_RefusesWhatIsNotTheNodes(t *testing.T) {
	other := newKubeletIdentity(must(pki.NewClusterCA(now)), "uid")
	for name, change := range map[string]func(id *KubeletIdentity){
		"another node":           func(id *KubeletIdentity) { id.Node = "a" },
		"another cluster":        func(id *KubeletIdentity) { id.CA = other.CA },
		"no authority":           func(id *KubeletIdentity) { id.CA = nil },
		"another key":            func(id *KubeletIdentity) { id.ClientKey = id.ServingKey },
		"no serving certificate": func(id *KubeletIdentity) { id.ServingCert = nil },
		"certificates swapped": func(id *KubeletIdentity) {
			id.ClientCert, id.ClientKey, id.ServingCert, id.ServingKey = id.ServingCert, id.ServingKey, id.ClientCert, id.ClientKey
		},
		"signed by another cluster": func(id *KubeletIdentity) { id.ServingCert, id.ServingKey = other.ServingCert, other.ServingKey },
	} {
		t.Run(name, func(t *testing.T) {
			h := hosttest.New(t).Host()
			id := newKubeletIdentity(clusterCA(), "uid")
			change(&id)
			if err := PlaceKubeletIdentity(h, id, now); err == nil {
				t.Error("no error")
			}
			if _, err := h.Lstat(DataDir); err == nil {
				t.Error("something was written")
			}
		})
	}
	if err := PlaceKubeletIdentity(hosttest.New(t).Host(), newKubeletIdentity(clusterCA(), "uid"), now.Add(2*nodecert.Lifetime)); err == nil {
		t.Error("expired certificates were placed")
	}
}

func TestKubeletIdentityNeeded_NamesWhatIsMissing(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(t *testing.T, h host.Host, root string)
		want   string
	}{
		"no serving certificate": {func(t *testing.T, h host.Host, _ string) {
			if err := h.RemoveAll(KubeletCertPath); err != nil {
				t.Fatal(err)
			}
		}, KubeletCertPath + " is missing"},
		"a file": {func(t *testing.T, h host.Host, _ string) {
			if err := h.Write(KubeletClientCertPath, strings.NewReader("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "is not a symbolic link"},
		"damaged": {func(t *testing.T, _ host.Host, root string) {
			if err := os.WriteFile(filepath.Join(root, KubeletCertPath), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, KubeletCertPath + ": tls: failed"},
		"of k0s": {func(t *testing.T, _ host.Host, root string) {
			other := must(clusterCA().IssueServerCert([]string{"w1"}, now))
			if err := os.WriteFile(filepath.Join(root, KubeletClientCertPath), slices.Concat(other.Cert, other.Key), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "it has no UID"},
	} {
		t.Run(name, func(t *testing.T) {
			f := hosttest.New(t)
			if err := PlaceKubeletIdentity(f.Host(), newKubeletIdentity(clusterCA(), "uid"), now); err != nil {
				t.Fatal(err)
			}
			tc.change(t, f.Host(), f.Root)
			if why, err := KubeletIdentityNeeded(f.Host()); !strings.Contains(why, tc.want) || err != nil {
				t.Errorf("%q %v, want %q", why, err, tc.want)
			}
		})
	}
}
