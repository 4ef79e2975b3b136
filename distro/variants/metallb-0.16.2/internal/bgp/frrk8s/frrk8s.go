// Package frr takes the place of MetalLB's package, which writes the configuration of FRR: it needs types of a version
// of frr-k8s that the module proxy does not serve. Layer 2 and the native BGP do not use it.
package frr

import (
	"encoding/json"
	"errors"

	"github.com/go-kit/log"
	frrv1beta1 "github.com/metallb/frr-k8s/api/v1beta1"

	"go.universe.tf/metallb/internal/bgp"
	"go.universe.tf/metallb/internal/config"
	"go.universe.tf/metallb/internal/logging"
)

var errNone = errors.New("this build of MetalLB has no FRR")

// sessionManager has no sessions.
type sessionManager struct{}

// NewSessionManager returns a manager that refuses every session.
func NewSessionManager(log.Logger, logging.Level, string, string) bgp.SessionManager {
	return sessionManager{}
}

func (sessionManager) NewSession(log.Logger, bgp.SessionParameters) (bgp.Session, error) {
	return nil, errNone
}

func (sessionManager) SyncBFDProfiles(profiles map[string]*config.BFDProfile) error {
	if len(profiles) > 0 {
		return errNone
	}
	return nil
}

func (sessionManager) SyncExtraInfo(extras string) error {
	if extras != "" {
		return errNone
	}
	return nil
}

func (sessionManager) SetEventCallback(func(any)) {}

// ConfigName returns the name of the configuration of a node.
func ConfigName(node string) string { return "metallb-" + node }

// ConfigToDump returns a configuration as text.
func ConfigToDump(c frrv1beta1.FRRConfiguration) (string, error) {
	text, err := json.Marshal(c)
	return string(text), err
}
