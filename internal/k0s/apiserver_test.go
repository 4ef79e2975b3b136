package k0s

import (
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/plinthdev/plinth/internal/host/hosttest"
)

func TestBuildConfig_OverlayReplacesDefaultFlagsOnly(t *testing.T) {
	s := settings()
	s.Overlay = map[string]any{"spec": map[string]any{"api": map[string]any{"extraArgs": map[string]any{
		"audit-log-maxage": "365", "audit_log_maxsize": "10", "encryption-provider-config": "/x", "encryption_provider_config_automatic_reload": "false"}}}}
	c, err := buildConfig(s)
	if err != nil {
		t.Fatal(err)
	}
	have := c.Spec.API.ExtraArgs
	for name, want := range map[string]string{"audit-log-path": AuditLogPath, "audit-log-maxage": "365", "audit_log_maxsize": "10", "audit-log-maxbackup": "4"} {
		if have[name] != want {
			t.Errorf("%s is %q, want %q", name, have[name], want)
		}
	}
	if _, twice := have["audit-log-maxsize"]; twice {
		t.Errorf("audit-log-maxsize is set twice: %v", have)
	}
	for name, value := range nodeAuthFlags {
		if have[name] != value {
			t.Errorf("%s is %q, want %q", name, have[name], value)
		}
	}
	if _, set := have["encryption_provider_config_automatic_reload"]; set {
		t.Error("the overlay sets a flag of Plinth with underscores")
	}
}

func TestAuditPolicy_LogsMetadataOnly(t *testing.T) {
	type rule struct {
		Level     string
		Verbs     []string
		Resources []struct{ Resources []string }
	}
	var p struct{ Rules []rule }
	if err := yaml.Unmarshal([]byte(auditPolicy), &p); err != nil {
		t.Fatal(err)
	}
	for i, r := range p.Rules {
		if r.Level != "None" && r.Level != "Metadata" {
			t.Errorf("rule %d logs bodies: %s", i, r.Level)
		}
	}
	secrets := slices.IndexFunc(p.Rules, func(r rule) bool {
		return r.Level == "Metadata" && len(r.Verbs) == 0 && len(r.Resources) == 1 && slices.Contains(r.Resources[0].Resources, "secrets")
	})
	for i, r := range p.Rules {
		if r.Level == "None" && len(r.Resources) == 0 && len(r.Verbs) > 0 && i < secrets {
			t.Errorf("rule %d hides reads of secrets", i)
		}
	}
	if secrets < 0 || p.Rules[len(p.Rules)-1].Level != "Metadata" {
		t.Error("secrets, or everything else, are not logged")
	}
}

func TestConfigPaths_HaveAuditPolicyOnControllersOnly(t *testing.T) {
	for _, worker := range []bool{false, true} {
		s := Service{Host: hosttest.New(t).Host(), Settings: settings(), Worker: worker}
		if got := slices.Contains(s.ConfigPaths(), auditPolicyPath); got == worker {
			t.Errorf("worker %v: %v", worker, s.ConfigPaths())
		}
		for _, f := range s.configFiles() {
			if f.path == auditPolicyPath && f.perm != 0o644 {
				t.Error("the user of the API server cannot read the policy")
			}
		}
	}
	if !strings.HasPrefix(AuditLogPath, DataDir+"/") {
		t.Error("reset does not remove the audit log")
	}
}
