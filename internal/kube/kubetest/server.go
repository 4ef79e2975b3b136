// Package kubetest provides an API server for tests, with real HTTP, real
// discovery and objects in memory. It supports create, read, replace, patch,
// list and delete of the kinds in knownKinds.
package kubetest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/token"
)

// Server is the API server of one test.
type Server struct {
	// Evict is called for the eviction of a pod. It returns the reason why the
	// pod cannot be evicted, or "".
	Evict func(pod string) string
	// Restricted makes the user of the client one who may not do everything, by SelfSubjectAccessReviews.
	Restricted bool
	// Version is the Kubernetes version that the server reports; "" for v1.33.8.
	Version string
	// Logs are pod logs by "namespace/pod". While the server handles requests,
	// use AddLog.
	Logs map[string]string

	mu      sync.Mutex
	admit   func(obj map[string]any)
	objects map[string]map[string]any // by path, such as /api/v1/namespaces/default
	writes  []string
	version int
}

// New starts a server and returns it with a client.
func New(t testing.TB) (*Server, *kube.Client) {
	t.Helper()
	s := &Server{admit: MarkReady, objects: map[string]map[string]any{}}
	return s, NewClient(t, s)
}

// SetAdmit sets what changes each object that is written, as controllers would
// do later: MarkReady, unless set; nil for no change. The server may be
// handling a request, such as one whose client is gone.
func (s *Server) SetAdmit(admit func(obj map[string]any)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admit = admit
}

// NewClient returns a client of an API server that h implements.
func NewClient(t testing.TB, h http.Handler) *kube.Client {
	t.Helper()
	c, err := kube.New(Kubeconfig(t, h))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Kubeconfig starts an API server that h implements, and returns a kubeconfig for it.
func Kubeconfig(t testing.TB, h http.Handler) []byte {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Config","current-context":"t",
		"contexts":[{"name":"t","context":{"cluster":"t","user":"t"}}],"users":[{"name":"t","user":{}}],
		"clusters":[{"name":"t","cluster":{"server":%q}}]}`, srv.URL)
}

// Put stores an object at its path ("/apis/apps/v1/namespaces/a/deployments/b").
func (s *Server) Put(path string, obj map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[path] = obj
}

// RecordNodes adds records to those of the cluster. A record without a UID gets
// one, a record without an address gets 10.0.0.1, and a controller has joined.
func RecordNodes(t testing.TB, c *kube.Client, all ...kube.NodeRecord) {
	t.Helper()
	err := c.UpdateNodeRecords(t.Context(), func(records kube.NodeRecords) error {
		for _, rec := range all {
			rec.UID = cmp.Or(rec.UID, "uid-of-"+rec.Node)
			rec.Address = cmp.Or(rec.Address, "10.0.0.1")
			rec.MachineID = cmp.Or(rec.MachineID, "machine-of-"+rec.Node)
			rec.Joined = rec.Role == token.Controller
			records[rec.Node] = rec
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// AddLog appends to the log of "namespace/pod".
func (s *Server) AddLog(pod, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Logs[pod] += text
}

// Remove deletes the object at a path.
func (s *Server) Remove(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, path)
}

// Object returns the object at a path, or nil.
func (s *Server) Object(path string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.objects[path])
}

// Dump returns all objects as JSON, by path, without their resource versions.
func (s *Server) Dump() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]string{}
	for at, obj := range s.objects {
		obj = maps.Clone(obj)
		if meta, ok := obj["metadata"].(map[string]any); ok {
			meta = maps.Clone(meta)
			delete(meta, "resourceVersion")
			obj["metadata"] = meta
		}
		raw, _ := json.Marshal(obj) // it came from JSON, or from a test that reads it
		all[at] = string(raw)
	}
	return all
}

// Load stores the objects of Dump.
func (s *Server) Load(all map[string]string) error {
	for at, text := range all {
		var obj map[string]any
		if err := json.Unmarshal([]byte(text), &obj); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		s.Put(at, obj)
	}
	return nil
}

// Writes returns the write requests since the last call, such as "PATCH
// /api/…".
func (s *Server) Writes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.writes
	s.writes = nil
	return w
}

// MarkReady sets the status of a workload as if its controller had made it
// ready, of a Job as if it had run, and of a CustomResourceDefinition as if its
// kind were served.
func MarkReady(obj map[string]any) {
	condition := func(name string) map[string]any {
		return map[string]any{"conditions": []any{map[string]any{"type": name, "status": "True"}}}
	}
	switch obj["kind"] {
	case "Job":
		obj["status"] = condition("Complete")
	case "CustomResourceDefinition":
		obj["status"] = condition("Established")
	case "Deployment", "StatefulSet":
		obj["status"] = map[string]any{"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}
	case "DaemonSet":
		obj["status"] = map[string]any{"observedGeneration": 1, "desiredNumberScheduled": 1, "updatedNumberScheduled": 1, "numberReady": 1}
	}
}

// knownKinds are the plural names of the supported kinds by group version. All
// of them are namespaced, except Namespace, Node, PersistentVolume, StorageClass and those whose name begins
// with Cluster, Certificate, Custom or ValidatingAdmission.
var knownKinds = map[string]map[string]string{
	"v1": {
		"Namespace": "namespaces", "Node": "nodes", "Pod": "pods", "Secret": "secrets", "ConfigMap": "configmaps",
		"Service": "services", "ServiceAccount": "serviceaccounts", "Event": "events",
		"PersistentVolume": "persistentvolumes", "PersistentVolumeClaim": "persistentvolumeclaims",
	},
	"apiextensions.k8s.io/v1":   {"CustomResourceDefinition": "customresourcedefinitions"},
	"apiregistration.k8s.io/v1": {"APIService": "apiservices"},
	"batch/v1":                  {"Job": "jobs"},
	customGroup:                 {"Greeting": "greetings"},
	"apps/v1":                   {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"},
	"admissionregistration.k8s.io/v1": {
		"ValidatingAdmissionPolicy": "validatingadmissionpolicies", "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
	},
	"certificates.k8s.io/v1": {"CertificateSigningRequest": "certificatesigningrequests"},
	"coordination.k8s.io/v1": {"Lease": "leases"},
	"policy/v1":              {"PodDisruptionBudget": "poddisruptionbudgets"},
	"metallb.io/v1beta1":     {"IPAddressPool": "ipaddresspools"},
	"velero.io/v1": {"BackupStorageLocation": "backupstoragelocations", "Backup": "backups", "PodVolumeBackup": "podvolumebackups",
		"Restore": "restores", "PodVolumeRestore": "podvolumerestores"},
	"storage.k8s.io/v1":            {"StorageClass": "storageclasses"},
	"rbac.authorization.k8s.io/v1": {"ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings", "Role": "roles", "RoleBinding": "rolebindings"},
}

// ServeHTTP responds as an API server would.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if body := s.discoveryBody(r.URL.Path); body != nil {
		writeJSON(w, http.StatusOK, body)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if rest, ok := strings.CutSuffix(r.URL.Path, "/log"); ok {
		parts := strings.Split(rest, "/")
		_, _ = io.WriteString(w, s.Logs[parts[len(parts)-3]+"/"+path.Base(rest)])
		return
	}
	if rest, ok := strings.CutSuffix(r.URL.Path, "/eviction"); ok && s.Evict != nil {
		s.mu.Unlock()
		reason := s.Evict(path.Base(rest))
		s.mu.Lock()
		if reason != "" {
			writeJSON(w, http.StatusTooManyRequests, metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure,
				Code: http.StatusTooManyRequests, Reason: metav1.StatusReasonTooManyRequests, Message: "Cannot evict pod as it would violate the pod's disruption budget.",
				Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: "DisruptionBudget", Message: reason}}}})
			return
		}
		writeJSON(w, http.StatusCreated, metav1.Status{Status: metav1.StatusSuccess})
		return
	}
	if strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews") { // it changes nothing
		writeJSON(w, http.StatusCreated, map[string]any{"status": map[string]any{"allowed": !s.Restricted}})
		return
	}
	if r.Method != http.MethodGet {
		s.writes = append(s.writes, r.Method+" "+r.URL.Path)
	}
	var body map[string]any
	if r.Body != nil {
		_ = json.NewDecoder(r.Body).Decode(&body)
	}
	code, resp := s.handleRequest(r, body)
	writeJSON(w, code, resp)
}

func (s *Server) handleRequest(r *http.Request, body map[string]any) (int, any) {
	at := r.URL.Path
	if parent, sub := path.Split(at); r.Method == http.MethodPut && (sub == "status" || sub == "approval") {
		return s.updateSubresource(path.Clean(parent), sub, body)
	}
	old, exists := s.objects[at]
	switch {
	case r.Method == http.MethodGet && exists:
		return http.StatusOK, old
	case r.Method == http.MethodGet && listKindOf(at) != "":
		return http.StatusOK, s.listObjects(at, r.URL.Query().Get("labelSelector"))
	case r.Method == http.MethodPost:
		meta, _ := body["metadata"].(map[string]any)
		at = path.Join(at, fmt.Sprint(meta["name"]))
		if _, exists := s.objects[at]; exists {
			return failureStatus(http.StatusConflict, metav1.StatusReasonAlreadyExists)
		}
		return http.StatusCreated, s.storeObject(at, body)
	case r.Method == http.MethodPatch && (exists || r.Header.Get("Content-Type") == "application/apply-patch+yaml"):
		return http.StatusOK, s.storeObject(at, mergePatch(old, body))
	case r.Method == http.MethodPut && exists && resourceVersion(body) != "" && resourceVersion(body) != resourceVersion(old):
		return failureStatus(http.StatusConflict, metav1.StatusReasonConflict)
	case r.Method == http.MethodPut && exists:
		return http.StatusOK, s.storeObject(at, body)
	case r.Method == http.MethodDelete && exists:
		delete(s.objects, at)
		return http.StatusOK, metav1.Status{Status: metav1.StatusSuccess}
	}
	return failureStatus(http.StatusNotFound, metav1.StatusReasonNotFound)
}

// updateSubresource updates the certificate (status) or the conditions (approval)
// of the certificate signing request at a path, and nothing else of it.
func (s *Server) updateSubresource(at, sub string, body map[string]any) (int, any) {
	old, exists := s.objects[at]
	switch {
	case !exists:
		return failureStatus(http.StatusNotFound, metav1.StatusReasonNotFound)
	case resourceVersion(body) != resourceVersion(old):
		return failureStatus(http.StatusConflict, metav1.StatusReasonConflict)
	}
	field := map[string]string{"status": "certificate", "approval": "conditions"}[sub]
	next, status := maps.Clone(old), map[string]any{}
	if was, ok := old["status"].(map[string]any); ok {
		status = maps.Clone(was)
	}
	if is, ok := body["status"].(map[string]any); ok {
		status[field] = is[field]
	}
	next["metadata"], next["status"] = maps.Clone(old["metadata"].(map[string]any)), status
	return http.StatusOK, s.storeObject(at, next)
}

// resourceVersion returns the resource version of an object, or "".
func resourceVersion(obj map[string]any) string {
	meta, _ := obj["metadata"].(map[string]any)
	v, _ := meta["resourceVersion"].(string)
	return v
}

func (s *Server) storeObject(at string, obj map[string]any) map[string]any {
	s.version++
	if meta, ok := obj["metadata"].(map[string]any); ok {
		meta["resourceVersion"] = strconv.Itoa(s.version)
	}
	if s.admit != nil {
		s.admit(obj)
	}
	s.objects[at] = obj
	return obj
}

func (s *Server) listObjects(at, selector string) any {
	sel, _ := labels.Parse(selector)
	items := []any{}
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		if path.Dir(key) != at && allNamespaces(key) != at {
			continue
		}
		meta, _ := s.objects[key]["metadata"].(map[string]any)
		set := labels.Set{}
		if l, ok := meta["labels"].(map[string]any); ok {
			for k, v := range l {
				set[k] = fmt.Sprint(v)
			}
		}
		if sel.Matches(set) {
			items = append(items, s.objects[key])
		}
	}
	gv := "v1"
	if strings.HasPrefix(at, "/apis/") {
		gv = strings.Join(strings.Split(at, "/")[2:4], "/")
	}
	return map[string]any{"apiVersion": gv, "kind": listKindOf(at), "metadata": map[string]any{}, "items": items}
}

// allNamespaces returns the collection of all namespaces to which the path of an object belongs: /api/v1/pods for
// /api/v1/namespaces/a/pods/b. It returns "" for other paths.
func allNamespaces(at string) string {
	collection := path.Dir(at)
	namespace := path.Dir(collection)
	if namespaces := path.Dir(namespace); path.Base(namespaces) == "namespaces" {
		return path.Join(path.Dir(namespaces), path.Base(collection))
	}
	return ""
}

// listKindOf returns the list kind of a collection such as
// /api/v1/namespaces/a/pods, or "" for the path of an object.
func listKindOf(at string) string {
	for _, plurals := range knownKinds {
		for kind, plural := range plurals {
			if plural == path.Base(at) {
				return kind + "List"
			}
		}
	}
	return ""
}

// mergePatch returns the result of a merge patch (RFC 7386), as far as tests
// need it.
func mergePatch(old, patch map[string]any) map[string]any {
	out := maps.Clone(old)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range patch {
		sub, isMap := v.(map[string]any)
		was, wasMap := out[k].(map[string]any)
		switch {
		case v == nil:
			delete(out, k)
		case isMap && wasMap:
			out[k] = mergePatch(was, sub)
		default:
			out[k] = v
		}
	}
	return out
}

// customGroup is the API of a chart of tests. It is served once its CustomResourceDefinition exists.
const customGroup = "example.com/v1"

// serves reports whether an API is served.
func (s *Server) serves(groupVersion string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return groupVersion != customGroup || s.objects["/apis/apiextensions.k8s.io/v1/customresourcedefinitions/greetings.example.com"] != nil
}

func (s *Server) discoveryBody(at string) any {
	switch at {
	case "/version":
		return map[string]any{"major": "1", "minor": "33", "gitVersion": cmp.Or(s.Version, "v1.33.8")}
	case "/api":
		return map[string]any{"kind": "APIVersions", "versions": []string{"v1"}}
	case "/apis":
		groups := []any{}
		for gv := range knownKinds {
			if name, v, ok := strings.Cut(gv, "/"); ok && s.serves(gv) {
				version := map[string]any{"groupVersion": gv, "version": v}
				groups = append(groups, map[string]any{"name": name, "versions": []any{version}, "preferredVersion": version})
			}
		}
		return map[string]any{"kind": "APIGroupList", "groups": groups}
	}
	if gv := strings.TrimPrefix(strings.TrimPrefix(at, "/apis/"), "/api/"); knownKinds[gv] != nil && s.serves(gv) {
		resources := []any{}
		for kind, plural := range knownKinds[gv] {
			namespaced := !slices.Contains([]string{"Namespace", "Node", "PersistentVolume", "StorageClass", "APIService"}, kind) &&
				!slices.ContainsFunc([]string{"Cluster", "Certificate", "Custom", "ValidatingAdmission"}, func(p string) bool { return strings.HasPrefix(kind, p) })
			resources = append(resources, map[string]any{"name": plural, "kind": kind, "namespaced": namespaced, "verbs": []string{"get"}})
		}
		return map[string]any{"kind": "APIResourceList", "groupVersion": gv, "resources": resources}
	}
	return nil
}

func failureStatus(code int32, reason metav1.StatusReason) (int, any) {
	return int(code), metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: code, Reason: reason, Message: string(reason),
	}
}

func writeJSON(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}
