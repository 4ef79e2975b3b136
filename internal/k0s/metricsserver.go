package k0s

// MetricsServer is the component that an Installer can disable, and the prefix of its pods.
const MetricsServer = "metrics-server"

// metricsServerManifests is the folder in which k0s keeps the manifests of metrics-server
// (k0s 1.33.8, pkg/component/controller/metricserver.go).
const metricsServerManifests = DataDir + "/manifests/metricserver"

// unusedManifests returns the folders of manifests that a controller with these settings must not have.
func (s Service) unusedManifests() []string {
	if s.Worker || !s.Settings.NoMetricsServer {
		return nil
	}
	return []string{metricsServerManifests}
}
