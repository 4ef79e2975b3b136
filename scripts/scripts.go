// Package scripts owns the scripts that Plinth hands on. It refuses to run them.
package scripts

import _ "embed"

// Install is the template of a release's install.sh; what stands between @ is
// filled in by `plinth release`.
//
//go:embed install.sh
var Install string
