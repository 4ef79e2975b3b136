// Package ext is the extension point of Traefik's configuration. It is a module of its own inside Traefik's repository,
// and so it is not in Traefik's module.
package ext

// HTTP has no further fields.
type HTTP struct{}

// Router has no further fields.
type Router struct{}
