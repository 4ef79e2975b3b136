package k0s

import "slices"

// SystemObject is an object that k0s creates in every cluster, and writes again each time that it starts.
type SystemObject struct {
	Component  string // of k0s, by the name of its workload
	APIVersion string
	Kind       string
	Namespace  string // "" for none
	Name       string
}

// SystemObjects returns the objects of the components that run with the settings; those of metrics-server in the order
// in which they are to be deleted: the first is the registration of the API that the others serve, and while it names a
// service without pods, no namespace can be deleted.
// Source: pkg/component/controller/{metricserver,coredns,kubeproxy,kuberouter}.go of k0s 1.33.8, and of a development state
// of 1.36 (commit fd5b560f3acb). The components that Plinth disables are left out.
func (s Settings) SystemObjects() (all []SystemObject) {
	const apps, core, policy, rbac, kubeSystem = "apps/v1", "v1", "policy/v1", "rbac.authorization.k8s.io/v1", "kube-system"
	const router, proxy, dns = "kube-router", "kube-proxy", "coredns"
	for _, o := range []SystemObject{
		{MetricsServer, "apiregistration.k8s.io/v1", "APIService", "", "v1beta1.metrics.k8s.io"},
		{MetricsServer, apps, "Deployment", kubeSystem, MetricsServer},
		{MetricsServer, core, "Service", kubeSystem, MetricsServer},
		{MetricsServer, rbac, "ClusterRoleBinding", "", "metrics-server:system:auth-delegator"},
		{MetricsServer, rbac, "ClusterRoleBinding", "", "system:metrics-server"},
		{MetricsServer, rbac, "RoleBinding", kubeSystem, "metrics-server-auth-reader"},
		{MetricsServer, rbac, "ClusterRole", "", "system:metrics-server"},
		{MetricsServer, rbac, "ClusterRole", "", "system:aggregated-metrics-reader"},
		{MetricsServer, core, "ServiceAccount", kubeSystem, MetricsServer},
		{dns, apps, "Deployment", kubeSystem, dns},
		{dns, core, "Service", kubeSystem, "kube-dns"},
		{dns, core, "ConfigMap", kubeSystem, dns},
		{dns, policy, "PodDisruptionBudget", kubeSystem, dns},
		{dns, core, "ServiceAccount", kubeSystem, dns},
		{dns, rbac, "ClusterRole", "", "system-coredns"},
		{dns, rbac, "ClusterRoleBinding", "", "system-coredns"},
		{proxy, apps, "DaemonSet", kubeSystem, proxy},
		{proxy, core, "ConfigMap", kubeSystem, proxy},
		{proxy, core, "ServiceAccount", kubeSystem, proxy},
		{proxy, rbac, "Role", kubeSystem, proxy},
		{proxy, rbac, "RoleBinding", kubeSystem, "kube-proxy-conf"},
		{proxy, rbac, "ClusterRoleBinding", "", "node-proxier"},
		{router, apps, "DaemonSet", kubeSystem, router},
		{router, core, "ConfigMap", kubeSystem, "kube-router-cfg"},
		{router, core, "ServiceAccount", kubeSystem, router},
		{router, rbac, "ClusterRole", "", router},
		{router, rbac, "ClusterRoleBinding", "", router},
	} {
		if slices.Contains(s.SystemPods(), o.Component) {
			all = append(all, o)
		}
	}
	return all
}
