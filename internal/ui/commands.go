package ui

import "strings"

// RootCommands are the commands of plinth that need root: hints name them with sudo.
var RootCommands = []string{"install", "join", "agent", "token", "status", "diagnose", "support-bundle", "upgrade", "reset", "node", "console", "certificates",
	"kubectl", "kots", "shell", "debug", "backup", "restore", "repair"}

// UserCommands are the other commands of plinth. A preflight knows more as root, but runs without.
var UserCommands = []string{"addons", "bundle", "lint", "lock", "convert", "preflight", "publish", "completion", "help", "version"}

// CommandPattern returns a regular expression that matches one of names.
func CommandPattern(names ...[]string) string {
	var all []string
	for _, n := range names {
		all = append(all, n...)
	}
	return "(?:" + strings.Join(all, "|") + ")"
}
