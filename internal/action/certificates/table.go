// Package certificates lists and renews the certificates of this host and of its cluster.
package certificates

import (
	"time"

	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/velero"
)

// Renewer is who renews a certificate without being asked.
type Renewer string

// The renewers. No one renews a certificate authority.
const (
	ByAgent   Renewer = "plinth-agent" // of this host or, for an object of the cluster, of the first controller that notices
	ByK0s     Renewer = "k0s"          // at each of its starts, which the agent of this host causes
	ByKubelet Renewer = "kubelet"      // while it runs; the agents of the controllers sign what it requests
	ByUser    Renewer = "you"          // not issued by the cluster
	ByNone    Renewer = ""             // an authority, or a certificate that is not used any more
)

// kubeletRenewBelow is the share of its life below which the agent of a controller replaces a certificate that
// kubelet should have renewed: kubelet does it when 30 to 10 % are left (client-go 0.33,
// util/certificate/certificate_manager.go). After its end kubelet cannot, for example on a host that was off.
const kubeletRenewBelow = 1.0 / 12

// warnBelow is the share of its life below which users are warned: renewals have then failed for weeks.
const warnBelow = 1.0 / 5

// authorityWarning is how long before the end of an authority users are warned.
const authorityWarning = 365 * 24 * time.Hour

// loopbackLife is how long the certificate is valid that kube-apiserver creates at its start, in memory, for
// its requests to itself (k8s.io/apiserver 0.33, pkg/server/options/serving_with_loopback.go).
const loopbackLife = (3*365 + 1) * 24 * time.Hour

// startTolerance is how much older than its newest certificates those may be that k0s has issued at the same start.
const startTolerance = 10 * time.Minute

// What is restarted to use a new certificate.
const (
	restartsNothing  = ""
	restartsK0s      = "k0s"
	restartsRegistry = "pod of the registry"
	restartsStore    = "pod of the object store"
	restartsConsole  = "pods of the console's proxy"
)

// entry is one row of the table of certificates.
type entry struct {
	name       string // stable: users name it in commands
	owner      string // program that shows the certificate, or whose certificates the authority signs
	file       string // on the node; "" for an object of the cluster, or a certificate in memory
	object     string // of the cluster; "" for a file
	addOn      string // whose namespace has the object; "" for the console
	service    string // of the add-on, whose certificate or authority it is
	renewer    Renewer
	restarts   string
	authority  bool
	renewBelow float64 // share of its life
}

// pkiDir is the folder of k0s's certificates.
const pkiDir = k0s.DataDir + "/pki/"

// Names of certificates that are handled by themselves.
const (
	nameCA       = "ca"
	nameAdmin    = "admin"
	nameLoopback = "apiserver-loopback"
	nameClient   = "kubelet-client"
	nameServing  = "kubelet-serving"
	nameAgent    = "agent"
	nameRegistry = "registry"
	nameConsole  = "console"
	nameRegCA    = "registry-ca"
	nameStore    = "object-store"
	nameStoreCA  = "object-store-ca"
)

// table returns all certificates of a node and of its cluster. A node has only some of them.
//
// k0s issues its certificates again at each start, whatever their end, if their issuer is one of the three
// authorities (k0s 1.33.8, pkg/certificate/manager.go: regenerateCert); nothing has to be removed before. A
// worker has none of them, so that its k0s is never restarted for a certificate.
func table(identityPath string) []entry {
	all := []entry{
		{name: nameCA, owner: "cluster", file: k0s.CACertPath}, // the first row
		{name: "etcd-ca", owner: "etcd", file: pkiDir + "etcd/ca.crt"},
		{name: "front-proxy-ca", owner: "kube-apiserver", file: pkiDir + "front-proxy-ca.crt"},
		{name: nameRegCA, owner: "registry", object: "Secret registry-ca", addOn: "registry", service: "registry"},
		{name: nameStoreCA, owner: "object store", object: "Secret object-store-ca", addOn: "velero", service: velero.StoreName},
	}
	for i := range all {
		all[i].authority = true
	}
	for _, e := range []entry{
		{name: nameAdmin, owner: "plinth, kubectl", file: pkiDir + "admin.crt"},
		{name: "apiserver", owner: "kube-apiserver", file: pkiDir + "server.crt"},
		{name: "apiserver-etcd-client", owner: "kube-apiserver", file: pkiDir + "apiserver-etcd-client.crt"},
		{name: "apiserver-kubelet-client", owner: "kube-apiserver", file: pkiDir + "apiserver-kubelet-client.crt"},
		{name: nameLoopback, owner: "kube-apiserver"},
		{name: "ccm", owner: "kube-controller-manager", file: pkiDir + "ccm.crt"},
		{name: "etcd-peer", owner: "etcd", file: pkiDir + "etcd/peer.crt"},
		{name: "etcd-server", owner: "etcd", file: pkiDir + "etcd/server.crt"},
		{name: "front-proxy-client", owner: "kube-apiserver", file: pkiDir + "front-proxy-client.crt"},
		{name: "k0s-api", owner: "k0s", file: pkiDir + "k0s-api.crt"},
		{name: "konnectivity", owner: "k0s", file: pkiDir + "konnectivity.crt"},
		{name: "scheduler", owner: "kube-scheduler", file: pkiDir + "scheduler.crt"},
	} {
		e.renewer, e.restarts, e.renewBelow = ByK0s, restartsK0s, pki.RenewBelow
		all = append(all, e)
	}
	return append(all,
		entry{name: nameClient, owner: "kubelet", file: k0s.KubeletClientCertPath, renewer: ByKubelet, restarts: restartsNothing, renewBelow: kubeletRenewBelow},
		entry{name: nameServing, owner: "kubelet", file: k0s.KubeletCertPath, renewer: ByKubelet, restarts: restartsNothing, renewBelow: kubeletRenewBelow},
		entry{name: nameAgent, owner: "plinth-agent", file: identityPath, renewer: ByAgent, restarts: restartsNothing, renewBelow: pki.RenewBelow},
		entry{name: nameRegistry, owner: "registry", object: "Secret registry-tls", addOn: "registry", service: "registry", renewer: ByAgent, restarts: restartsRegistry, renewBelow: pki.RenewBelow},
		entry{name: nameStore, owner: "object store", object: "Secret object-store-tls", addOn: "velero", service: velero.StoreName, renewer: ByAgent, restarts: restartsStore, renewBelow: pki.RenewBelow},
		entry{name: nameConsole, owner: "console", object: "Secret kotsadm-tls", renewer: ByAgent, restarts: restartsConsole, renewBelow: pki.RenewBelow},
	)
}

// k0sAuthorities are the common names of the issuers whose certificates k0s renews.
var k0sAuthorities = []string{pki.ClusterCAName, "kubernetes-front-proxy-ca", "etcd-ca"}
