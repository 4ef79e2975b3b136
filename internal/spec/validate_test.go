package spec_test

import (
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/spec"
)

// ruleValues returns valid and invalid values of each rule.
func ruleValues() map[string][2][]string {
	long := strings.Repeat("a", 63)
	return map[string][2][]string{
		"version-exact": {
			{"1.131.2", "0.0.30", "1.129.4-ec.3", "1.75.0+build.5"},
			{"latest", "1.2", "1.2.x", "1.2.*", "v1.2.3", "V1.2.3", ">=1.2.3", "~1.2.3", "^1.2.3", "1.2.3 || 1.2.4", " 1.2.3", "1.2.3 ", "01.2.3", "1.2.3.4", "", "1.2.3-" + long},
		},
		"version-exact/k0s": {
			{"v1.33.8+k0s.1", "v1.33.6+k0s.0", "v1.34.0-rc.1+k0s.0"},
			{"1.33.8+k0s.1", "v1.33.8", "v1.33+k0s.1", "v1.33.8+k0s", "v1.33.8+k0s.", "v1.33.8+k0s.x", "v1.33.8+k0s.1.2", "v1.33.8+k0s.01", "v1.33.8+k3s.1", "vv1.33.8+k0s.1", "V1.33.8+k0s.1", "stable"},
		},
		"dns-label": {{"a", "my-app", "0", "a1", long}, {"", "-a", "a-", "A", "a.b", "a_b", "ä", long + "a", "a b"}},
		"cidr-form": {{"10.0.0.0/8", "10.96.0.0/12", "1.2.3.4/32"}, {"", "10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "010.0.0.0/8", "fd00::/64", "::ffff:10.0.0.0/104", "10.0.0.0/8 ", "10.0.0.0/08"}},
		"node-port-range": {
			{"80-32767", "1-65535", "8800-8800"},
			{"", "80", "80-", "-80", "80:90", "80 - 90", "0-1", "1-65536", "90-80", "080-90", "+1-2", "1-2-3", "99999999999999999999-1"},
		},
		"hostname": {
			{"a", "console.example.com", "a-b.c1", strings.Repeat(long+".", 3) + "a"},
			{"a.", ".a", "a..b", "*.a", "A.b", "a:1", "http://a", "a/b", "10.0.0.1", "::1", "a_b", strings.Repeat(long+".", 4) + "a", "user@a"},
		},
		"proxy-url": {
			{"http://proxy:3128", "https://proxy.example.com", "http://u:p@proxy:1/", "http://10.0.0.1:80", "http://[fd00::1]:3128"},
			{"proxy:3128", "proxy", "ftp://x", "socks5://x", "http://", "http://:80", "http://x:", "http://x:0", "http://x:65536", "http://x:y", "http://x/p", "http://x?q", "http://x#f", "http://x y", "http://u:p@:1"},
		},
		"no-proxy": {
			{"localhost", ".example.com", "*.example.com", "*", "10.0.0.0/8", "::1", "[::1]:80", "host:80", "under_score"},
			{"", "a,b", "a b", "http://x", "u@x", "$(x)", "a;b", "`x`", "a\nb", "ä"},
		},
		"no-such-rule": {{"", "anything"}, nil},
	}
}

func TestCheckValue_AcceptsValidAndRejectsInvalidValues(t *testing.T) {
	for rule, values := range ruleValues() {
		t.Run(rule, func(t *testing.T) {
			for _, value := range values[0] {
				if message, _ := spec.CheckValue(rule, value); message != "" {
					t.Errorf("rejects %q: %s", value, message)
				}
			}
			for _, value := range values[1] {
				if message, _ := spec.CheckValue(rule, value); message == "" {
					t.Errorf("accepts %q", value)
				}
			}
		})
	}
}

func TestCheckValue_SuggestsOnlyValidValues(t *testing.T) {
	for rule, values := range ruleValues() {
		t.Run(rule, func(t *testing.T) {
			for _, value := range values[1] {
				_, hint := spec.CheckValue(rule, value)
				meant, ok := strings.CutPrefix(hint, "did you mean \"")
				if !ok {
					continue
				}
				if message, _ := spec.CheckValue(rule, strings.TrimSuffix(meant, "\"?")); message != "" {
					t.Errorf("for %q it suggests %s, but %s", value, hint, message)
				}
			}
		})
	}
}

func TestCheckValue_MessagesContainNoPassword(t *testing.T) {
	for _, value := range []string{"http://u:hunter2@x:99999", "u:hunter2@x", "http://u:hunter2@x/ p", "http://u:hunter2%zz@x", "http://x/?token=hunter2"} {
		for _, rule := range []string{"proxy-url", "no-proxy", "hostname"} {
			t.Run(rule+" "+value, func(t *testing.T) {
				if message, hint := spec.CheckValue(rule, value); strings.Contains(message+hint, "hunter2") && strings.Contains(value, "@") {
					t.Errorf("%s (%s)", message, hint)
				}
			})
		}
	}
}

func FuzzCheckValue(f *testing.F) {
	for rule, values := range ruleValues() {
		for _, value := range append(values[0], values[1]...) {
			f.Add(rule, value)
		}
	}
	f.Fuzz(func(t *testing.T, rule, value string) {
		message, hint := spec.CheckValue(rule, value)
		if len(message)+len(hint) > 1500 || strings.ContainsFunc(message+hint, func(c rune) bool { return c < ' ' }) {
			t.Errorf("%s on %q: %q %q", rule, value, message, hint)
		}
		if first, last, err := spec.ParsePortRange(value); err == nil && (first < 1 || last < first || last > 65535) {
			t.Errorf("range %q is %d-%d", value, first, last)
		}
	})
}
