// Package dns takes the place of github.com/go-acme/lego/v5/providers/dns, whose clients of DNS services are in modules
// that the module proxy does not serve.
package dns

import (
	"fmt"

	"github.com/go-acme/lego/v5/challenge"
)

// NewDNSChallengeProviderByName returns an error for every name.
func NewDNSChallengeProviderByName(name string) (challenge.Provider, error) {
	return nil, fmt.Errorf("this build of Traefik has no DNS provider %s", name)
}
