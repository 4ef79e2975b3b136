package spec

import "gopkg.in/yaml.v3"

// kurlInstaller is what lint calls an Installer of kURL.
const kurlInstaller = "kURL Installer"

// IsKURL reports whether a document with this apiVersion and kind is an Installer of
// kURL. The second apiVersion is that of its first releases.
func IsKURL(apiVersion, kind string) bool {
	return kind == Kind && (apiVersion == "cluster.kurl.sh/v1beta1" || apiVersion == "kurl.sh/v1beta1")
}

// reportKURL reports the first Installer of kURL among roots, and whether there is one.
func (r reader) reportKURL(file string, roots []*yaml.Node) bool {
	for _, root := range roots {
		if apiVersion, kind := DocumentType(root); IsKURL(apiVersion, kind) {
			r.Report("kurl-installer", "apiVersion", root, "this is an Installer of kURL, not of Plinth", "convert it with: plinth convert kurl "+file)
			return true
		}
	}
	return false
}
