// Package scripts embeds the scripts that Plinth publishes.
package scripts

import _ "embed"

// Install is the template of a release's install.sh; what stands between @ is
// filled in by `plinth publish`.
//
//go:embed install.sh
var Install string
