// Package scripts embeds the scripts that Plinth publishes.
package scripts

import _ "embed"

// InstallTemplate is the template of the install.sh of a release. The placeholders between @ signs are
// filled in by `plinth publish`.
//
//go:embed install.sh
var InstallTemplate string
