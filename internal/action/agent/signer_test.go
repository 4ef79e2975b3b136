package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	certclient "k8s.io/client-go/kubernetes/typed/certificates/v1"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

// signing is a cluster with the node w1, whose requests a Signer signs.
type signing struct {
	Signer
	client *kube.Client
	ca     pki.Pair
	audit  []string
}

func newSigning(t *testing.T) *signing {
	t.Helper()
	_, client := kubetest.New(t)
	kubetest.RecordNodes(t, client, kube.NodeRecord{Node: "n1", Role: token.Controller, Address: "10.0.0.5"}, kube.NodeRecord{Node: "w1", Role: token.Worker, Address: "10.0.0.9"})
	ca, err := pki.NewCA(pki.ClusterCAName, noon)
	testkit.Must(t, err)
	s := &signing{client: client, ca: ca}
	s.Signer = Signer{Requests: client.Certificates(), Records: client.NodeRecords, CA: func() (pki.Pair, error) { return ca, nil }, Now: func() time.Time { return noon },
		Audit: func(e agent.AuditEvent) { s.audit = append(s.audit, e.Event+" "+e.Node+" "+e.Result) }}
	return s
}

// newCSR returns the request of w1's kubelet for a certificate of the kind.
func newCSR(t *testing.T, name string, kind nodecert.Kind) *certv1.CertificateSigningRequest {
	t.Helper()
	r := &certv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(noon.Add(-time.Minute))},
		Spec: certv1.CertificateSigningRequestSpec{Username: "system:node:w1", UID: "uid-of-w1", Groups: []string{"system:nodes", "system:authenticated"},
			SignerName: certv1.KubeAPIServerClientKubeletSignerName, Usages: []certv1.KeyUsage{certv1.UsageDigitalSignature, certv1.UsageClientAuth}}}
	if kind == nodecert.KubeletServing {
		r.Spec.SignerName, r.Spec.Usages[1] = certv1.KubeletServingSignerName, certv1.UsageServerAuth
	}
	r.Spec.Request = toPEM(newRequest(t, kind, w1))
	return r
}

func toPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// create creates requests, as the API server stores those of clients.
func (s *signing) create(t *testing.T, all ...*certv1.CertificateSigningRequest) {
	t.Helper()
	for _, r := range all {
		_, err := s.Requests.Create(t.Context(), r, metav1.CreateOptions{})
		testkit.Must(t, err)
	}
}

// get returns a request, and its decision with the message; "" for none.
func (s *signing) get(t *testing.T, name string) (r *certv1.CertificateSigningRequest, decision string) {
	t.Helper()
	r, err := s.Requests.Get(t.Context(), name, metav1.GetOptions{})
	testkit.Must(t, err)
	var all []string
	for _, c := range r.Status.Conditions {
		all = append(all, string(c.Type)+": "+c.Message)
	}
	return r, strings.Join(all, "; ")
}

func TestSignAll_SignsRequestsOfAdmittedNodes(t *testing.T) {
	for _, kind := range []nodecert.Kind{nodecert.KubeletClient, nodecert.KubeletServing} {
		t.Run(string(kind), func(t *testing.T) {
			s := newSigning(t)
			s.create(t, newCSR(t, "csr-1", kind))
			testkit.Must(t, s.SignAll(t.Context()))
			r, decision := s.get(t, "csr-1")
			leaf := parseLeaf(t, r.Status.Certificate)
			authority, err := parseCertificate(s.ca.Cert)
			testkit.Must(t, err)
			if n, uid, ok := nodecert.KubeletUID(leaf); !ok || n != "w1" || uid != "uid-of-w1" || leaf.CheckSignatureFrom(authority) != nil || decision != "Approved: signed for the admitted node w1" {
				t.Errorf("%s for %s, %s", decision, n, uid)
			}
			if !slices.Equal(s.audit, []string{"admission w1 signed a " + string(kind) + " certificate"}) {
				t.Errorf("%q", s.audit)
			}
			if err := s.SignAll(t.Context()); err != nil || len(s.audit) != 1 {
				t.Errorf("decided again: %q, %v", s.audit, err)
			}
		})
	}
}

func TestSignAll_DeniesWhatTheRecordDoesNotAllow(t *testing.T) {
	type csr = certv1.CertificateSigningRequest
	custom := func(c x509.CertificateRequest) func(*testing.T, *csr) {
		return func(t *testing.T, r *csr) {
			t.Helper()
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			testkit.Must(t, err)
			if c.Subject.CommonName == "" {
				c.Subject = pkix.Name{Organization: []string{"system:nodes"}, CommonName: "system:node:w1"}
			}
			der, err := x509.CreateCertificateRequest(rand.Reader, &c, key)
			testkit.Must(t, err)
			r.Spec.Request = toPEM(der)
		}
	}
	for name, tt := range map[string]struct {
		kind   nodecert.Kind
		change func(*testing.T, *csr)
		want   string
	}{
		"bootstrap token":   {nodecert.KubeletClient, func(_ *testing.T, r *csr) { r.Spec.Username = "system:bootstrap:abcdef" }, "is not a node; hosts join with `plinth join`"},
		"administrator":     {nodecert.KubeletClient, func(_ *testing.T, r *csr) { r.Spec.Username = "kubernetes-admin" }, "is not a node"},
		"not admitted":      {nodecert.KubeletClient, func(_ *testing.T, r *csr) { r.Spec.Username = "system:node:w2" }, "node w2 was removed from the cluster or never admitted to it"},
		"no name":           {nodecert.KubeletClient, func(_ *testing.T, r *csr) { r.Spec.Username = "system:node:" }, "never admitted to it"},
		"another node":      {nodecert.KubeletClient, func(_ *testing.T, r *csr) { r.Spec.Username, r.Spec.UID = "system:node:n1", "uid-of-n1" }, `the common name is "system:node:w1", not "system:node:n1"`},
		"earlier admission": {nodecert.KubeletClient, func(_ *testing.T, r *csr) { r.Spec.UID = "uid-of-w1-before" }, "is of an earlier admission"},
		"no UID":            {nodecert.KubeletServing, func(_ *testing.T, r *csr) { r.Spec.UID = "" }, "is of an earlier admission"},

		"usage of a server in a client's": {nodecert.KubeletClient, func(_ *testing.T, r *csr) { r.Spec.Usages = append(r.Spec.Usages, certv1.UsageServerAuth) }, `the usage "server auth" is not for a kubelet client`},
		"usage of a client in a server's": {nodecert.KubeletServing, func(_ *testing.T, r *csr) { r.Spec.Usages = append(r.Spec.Usages, certv1.UsageClientAuth) }, `the usage "client auth" is not for a kubelet serving`},
		"signing":                         {nodecert.KubeletServing, func(_ *testing.T, r *csr) { r.Spec.Usages = append(r.Spec.Usages, certv1.UsageCertSign) }, `the usage "cert sign" is not for`},
		"usage is missing":                {nodecert.KubeletClient, func(_ *testing.T, r *csr) { r.Spec.Usages = r.Spec.Usages[:1] }, `the usage "client auth" is missing`},

		"name of another node": {nodecert.KubeletServing, custom(x509.CertificateRequest{DNSNames: []string{"n1"}}), `the name "n1" is not that of the node`},
		"loopback":             {nodecert.KubeletServing, custom(x509.CertificateRequest{DNSNames: []string{"w1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}), "the address 127.0.0.1 is not that of the node"},
		"API":                  {nodecert.KubeletServing, custom(x509.CertificateRequest{DNSNames: []string{"kubernetes.default.svc"}}), "is not that of the node"},
		"no names":             {nodecert.KubeletServing, custom(x509.CertificateRequest{}), "has no name and no address"},
		"names of a client":    {nodecert.KubeletClient, custom(x509.CertificateRequest{DNSNames: []string{"w1"}}), "has no names or addresses"},
		"organization":         {nodecert.KubeletClient, custom(x509.CertificateRequest{Subject: pkix.Name{Organization: []string{"system:masters"}, CommonName: "system:node:w1"}}), `the organization is "system:masters"`},
		"not PEM":              {nodecert.KubeletClient, func(_ *testing.T, r *csr) { r.Spec.Request = []byte("x") }, "is not one PEM block"},
		"two requests":         {nodecert.KubeletClient, func(_ *testing.T, r *csr) { r.Spec.Request = append(r.Spec.Request, r.Spec.Request...) }, "is not one PEM block"},
		"another block": {nodecert.KubeletClient, func(_ *testing.T, r *csr) {
			r.Spec.Request = []byte(strings.ReplaceAll(string(r.Spec.Request), "CERTIFICATE REQUEST", "CERTIFICATE"))
		}, "is not one PEM block"},
		"request of a server":    {nodecert.KubeletClient, func(t *testing.T, r *csr) { r.Spec.Request = newCSR(t, "x", nodecert.KubeletServing).Spec.Request }, "has no names or addresses"},
		"request of an agent":    {nodecert.KubeletServing, func(t *testing.T, r *csr) { r.Spec.Request = toPEM(newRequest(t, nodecert.Agent, w1)) }, `the organization is "plinth:workers"`},
		"controller that is not": {nodecert.KubeletClient, func(_ *testing.T, r *csr) { r.Spec.Username = "system:node:W1" }, "never admitted to it"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSigning(t)
			r := newCSR(t, "csr-1", tt.kind)
			tt.change(t, r)
			s.create(t, r)
			testkit.Must(t, s.SignAll(t.Context()))
			got, decision := s.get(t, "csr-1")
			if !strings.HasPrefix(decision, "Denied: ") || !strings.Contains(decision, tt.want) || got.Status.Certificate != nil || got.Status.Conditions[0].Reason != deniedReason {
				t.Errorf("%s, want %q", decision, tt.want)
			}
			if len(s.audit) != 1 || !strings.HasPrefix(s.audit[0], agent.AuditRefusal+" ") || !strings.Contains(s.audit[0], tt.want) {
				t.Errorf("%q", s.audit)
			}
		})
	}
}

func TestSignAll_LeavesOtherRequestsUntouched(t *testing.T) {
	s := newSigning(t)
	other, approved, failed := newCSR(t, "other", nodecert.KubeletClient), newCSR(t, "approved", nodecert.KubeletClient), newCSR(t, "failed", nodecert.KubeletClient)
	other.Spec.SignerName = certv1.KubeAPIServerClientSignerName
	approved.Status.Conditions = []certv1.CertificateSigningRequestCondition{{Type: certv1.CertificateApproved, Message: "by hand"}}
	failed.Status.Conditions = []certv1.CertificateSigningRequestCondition{{Type: certv1.CertificateFailed, Message: "by the signer"}}
	s.create(t, other, approved, failed)
	s.Records = func(context.Context) (kube.NodeRecords, error) { return nil, errors.New("they are not needed") }
	testkit.Must(t, s.SignAll(t.Context()))
	for name, want := range map[string]string{"other": "", "approved": "Approved: by hand", "failed": "Failed: by the signer"} {
		if r, got := s.get(t, name); got != want || r.Status.Certificate != nil {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestSignAll_LimitsTheRequestsOfOneAdmission(t *testing.T) {
	s := newSigning(t)
	var all []*certv1.CertificateSigningRequest
	for i := range 4 { // decided, two of them long ago
		r := newCSR(t, fmt.Sprintf("old-%d", i), nodecert.KubeletClient)
		r.Status.Conditions = []certv1.CertificateSigningRequestCondition{{Type: certv1.CertificateDenied}}
		if i < 2 {
			r.CreationTimestamp = metav1.NewTime(noon.Add(-requestsWithin))
		}
		all = append(all, r)
	}
	for i := range maxRequests { // of the node that was removed
		r := newCSR(t, fmt.Sprintf("removed-%d", i), nodecert.KubeletClient)
		r.Spec.UID = "uid-of-w1-before"
		all = append(all, r)
	}
	for i := range 5 {
		r := newCSR(t, fmt.Sprintf("new-%d", i), nodecert.KubeletClient)
		r.CreationTimestamp = metav1.NewTime(noon.Add(-time.Duration(i) * time.Second)) // the first is the newest
		all = append(all, r)
	}
	s.create(t, all...)
	testkit.Must(t, s.SignAll(t.Context()))
	for i := range 5 {
		_, got := s.get(t, fmt.Sprintf("new-%d", i))
		if want := i >= 2; strings.HasPrefix(got, "Approved") != want || !want && !strings.Contains(got, "5 certificates within 10m0s") {
			t.Errorf("new-%d: %q", i, got)
		}
	}
}

func TestSignAll_CompletesWhatAnotherControllerBegan(t *testing.T) {
	s := newSigning(t)
	s.create(t, newCSR(t, "csr-1", nodecert.KubeletClient))
	crashed := s.Signer
	crashed.Requests = failingRequests{CertificateSigningRequestInterface: s.Requests, approve: errors.New("killed")}
	if err := crashed.SignAll(t.Context()); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("%v", err)
	}
	began, decision := s.get(t, "csr-1")
	if decision != "" || len(began.Status.Certificate) == 0 || len(s.audit) != 0 {
		t.Errorf("the certificate does not come before the approval: %q, %q", decision, s.audit)
	}
	testkit.Must(t, s.SignAll(t.Context()))
	if r, decision := s.get(t, "csr-1"); !strings.HasPrefix(decision, "Approved") || string(r.Status.Certificate) != string(began.Status.Certificate) {
		t.Errorf("%q, or another certificate", decision)
	}
}

// A certificate that is in the request of a node which was removed meanwhile must not be approved.
func TestSignAll_DeniesBegunRequestOfRemovedNode(t *testing.T) {
	s := newSigning(t)
	s.create(t, newCSR(t, "csr-1", nodecert.KubeletClient))
	crashed := s.Signer
	crashed.Requests = failingRequests{CertificateSigningRequestInterface: s.Requests, approve: errors.New("killed")}
	if crashed.SignAll(t.Context()) == nil {
		t.Error("no error")
	}
	testkit.Must(t, s.client.UpdateNodeRecords(t.Context(), func(all kube.NodeRecords) error { delete(all, "w1"); return nil }))
	testkit.Must(t, s.SignAll(t.Context()))
	if _, decision := s.get(t, "csr-1"); !strings.HasPrefix(decision, "Denied") {
		t.Error(decision)
	}
}

func TestSignAll_IgnoresRacesAndReportsOtherErrors(t *testing.T) {
	resource := schema.GroupResource{Group: "certificates.k8s.io", Resource: "certificatesigningrequests"}
	conflict, gone, down := apierrors.NewConflict(resource, "csr-1", errors.New("changed")), apierrors.NewNotFound(resource, "csr-1"), errors.New("the API server is down")
	for name, tt := range map[string]struct {
		fail   failingRequests
		denied bool
		want   error
	}{
		"conflict of the certificate": {failingRequests{sign: conflict}, false, nil},
		"conflict of the approval":    {failingRequests{approve: conflict}, false, nil},
		"conflict of the denial":      {failingRequests{approve: conflict}, true, nil},
		"request is gone":             {failingRequests{sign: gone}, false, nil},
		"certificate is not stored":   {failingRequests{sign: down}, false, down},
		"approval is not stored":      {failingRequests{approve: down}, false, down},
		"denial is not stored":        {failingRequests{approve: down}, true, down},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSigning(t)
			first, second := newCSR(t, "csr-1", nodecert.KubeletClient), newCSR(t, "csr-2", nodecert.KubeletClient)
			if tt.denied {
				first.Spec.UID = "old"
			}
			first.CreationTimestamp = metav1.NewTime(noon.Add(-time.Hour))
			s.create(t, first, second)
			tt.fail.CertificateSigningRequestInterface, tt.fail.only = s.Requests, "csr-1"
			s.Requests = tt.fail
			if err := s.SignAll(t.Context()); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if _, decision := s.get(t, "csr-2"); !strings.HasPrefix(decision, "Approved") || len(s.audit) != 1 {
				t.Errorf("the next request: %q, %q", decision, s.audit)
			}
		})
	}
}

func TestSignAll_DecidesNothingWithoutRecordsOrAuthority(t *testing.T) {
	down := errors.New("down")
	for name, change := range map[string]func(*signing){
		"no records":   func(s *signing) { s.Records = func(context.Context) (kube.NodeRecords, error) { return nil, down } },
		"no authority": func(s *signing) { s.CA = func() (pki.Pair, error) { return pki.Pair{}, down } },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSigning(t)
			s.create(t, newCSR(t, "csr-1", nodecert.KubeletClient))
			change(s)
			if err := s.SignAll(t.Context()); !errors.Is(err, down) {
				t.Errorf("%v", err)
			}
			if _, decision := s.get(t, "csr-1"); decision != "" {
				t.Error(decision)
			}
		})
	}
}

// failingRequests fails to write requests.
type failingRequests struct {
	certclient.CertificateSigningRequestInterface
	only          string // name of the request; "" for all
	sign, approve error
}

func (f failingRequests) UpdateStatus(ctx context.Context, r *certv1.CertificateSigningRequest, o metav1.UpdateOptions) (*certv1.CertificateSigningRequest, error) {
	if f.sign != nil && (f.only == "" || f.only == r.Name) {
		return nil, f.sign
	}
	return f.CertificateSigningRequestInterface.UpdateStatus(ctx, r, o)
}

func (f failingRequests) UpdateApproval(ctx context.Context, name string, r *certv1.CertificateSigningRequest, o metav1.UpdateOptions) (*certv1.CertificateSigningRequest, error) {
	if f.approve != nil && (f.only == "" || f.only == name) {
		return nil, f.approve
	}
	return f.CertificateSigningRequestInterface.UpdateApproval(ctx, name, r, o)
}

func TestWatchRequests_NotesAFailureWhenItBegins(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	tick, done := make(chan time.Time), make(chan struct{})
	results := []error{errors.New("down"), errors.New("down"), nil, errors.New("down again"), nil}
	var notes []string
	n := 0
	go func() {
		defer close(done)
		WatchRequests(ctx, tick, func(context.Context) error { n++; return results[n-1] }, func(text string) { notes = append(notes, text) })
	}()
	for range results {
		tick <- noon
	}
	stop()
	<-done
	if n != 5 || len(notes) != 2 || !strings.HasSuffix(notes[0], "request: down") || !strings.HasSuffix(notes[1], "down again") {
		t.Errorf("%d turns, %q", n, notes)
	}
}

// pagedRequests serves requests in pages, as the API server does, and fails without a limit.
type pagedRequests struct {
	certclient.CertificateSigningRequestInterface
	t *testing.T
}

func (p pagedRequests) List(ctx context.Context, o metav1.ListOptions) (*certv1.CertificateSigningRequestList, error) {
	if o.Limit == 0 || o.Limit > 100 {
		p.t.Errorf("a list with the limit %d", o.Limit)
	}
	all, err := p.CertificateSigningRequestInterface.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	from := 0
	if _, err := fmt.Sscan(o.Continue, &from); o.Continue != "" && err != nil {
		return nil, err
	}
	to := min(from+int(o.Limit), len(all.Items))
	page := &certv1.CertificateSigningRequestList{Items: all.Items[from:to]}
	if to < len(all.Items) {
		page.Continue = fmt.Sprint(to)
	}
	return page, nil
}

func TestSignAll_OneNodeDoesNotDelayOthers(t *testing.T) {
	s := newSigning(t)
	for i := range 200 {
		r := newCSR(t, fmt.Sprintf("a-%03d", i), nodecert.KubeletServing)
		r.Spec.Username, r.Spec.UID = "system:node:n1", "uid-of-n1"
		s.create(t, r)
	}
	s.create(t, newCSR(t, "z", nodecert.KubeletServing))
	s.Requests = pagedRequests{s.Requests, t}
	testkit.Must(t, s.SignAll(t.Context()))
	if _, decision := s.get(t, "z"); decision != "Approved: signed for the admitted node w1" {
		t.Errorf("the request of w1 waits: %q", decision)
	}
	open := 0
	for i := range 200 {
		if _, decision := s.get(t, fmt.Sprintf("a-%03d", i)); decision == "" {
			open++
		}
	}
	if open != 200-maxOpenOfOne {
		t.Errorf("%d requests of n1 are open after one run", open)
	}
}
