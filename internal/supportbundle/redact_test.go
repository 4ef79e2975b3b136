package supportbundle

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/testkit"
)

// places are the forms in which a text can be in a file: its name, and a function that puts the text there.
var places = map[string]struct {
	file  string
	write func(t *testing.T, text string) string
}{
	"text": {"a.txt", func(_ *testing.T, text string) string { return "first line\n" + text + "\nlast line\n" }},
	"log": {"a.log", func(_ *testing.T, text string) string {
		return "2026-01-02T12:00:00Z c1 k0s[9]: " + strings.ReplaceAll(text, "\n", "\n2026-01-02T12:00:00Z c1 k0s[9]: ") + "\n"
	}},
	"string in JSON": {"a.json", func(t *testing.T, text string) string { return toJSON(t, map[string]any{"message": text}) }},
	"ConfigMap": {"a.json", func(t *testing.T, text string) string {
		return toJSON(t, map[string]any{"kind": "ConfigMap", "data": map[string]any{"app.conf": "a = 1\n" + text + "\n"}})
	}},
	"annotation with JSON": {"a.json", func(t *testing.T, text string) string {
		return toJSON(t, map[string]any{"metadata": map[string]any{"annotations": map[string]any{"last-applied": toJSON(t, map[string]any{"data": map[string]any{"x": text}})}}})
	}},
	"JSON that is none": {"a.json", func(t *testing.T, text string) string { return text + "\n}" }},
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	testkit.Must(t, err)
	return string(raw)
}

// inLogs are kinds that need lines of their own, or a line that begins with them.
var inLogs = []string{"block", "environment in YAML", "Secret in YAML", "Secret in YAML, sorted", "text of a Secret", "shadow", "word as a password", "RSA key", "SSH key", "PGP key"}

func TestRedact_RemovesEveryKindOfSecret(t *testing.T) {
	all := kinds()
	if len(all) < 40 {
		t.Errorf("%d kinds", len(all))
	}
	for _, k := range all {
		for name, place := range places {
			if name == "log" && slices.Contains(inLogs[:6], k.name) {
				continue
			}
			t.Run(k.name+" in "+name, func(t *testing.T) {
				content := place.write(t, k.text)
				got := string(NewRedactor().Redact(place.file, []byte(content)))
				if strings.Contains(got, k.secret) || !strings.Contains(got, markBegin) {
					t.Errorf("%s", got)
				}
				if place.file != "a.json" && strings.Count(got, "\n") != strings.Count(content, "\n") {
					t.Errorf("the number of lines changed:\n%s", got)
				}
				if strings.HasPrefix(name, "text") && !strings.HasPrefix(got, "first line\n") || name == "text" && !strings.HasSuffix(got, "\nlast line\n") {
					t.Errorf("more was removed:\n%s", got)
				}
				if place.file == "a.json" && name != "JSON that is none" && !json.Valid([]byte(got)) {
					t.Errorf("no JSON: %s", got)
				}
			})
		}
	}
}

// TestKinds_AreInAFile keeps the kinds in a file that the tests of what collects read, too.
func TestKinds_AreInAFile(t *testing.T) {
	var all []map[string]string
	for _, k := range kinds() {
		all = append(all, map[string]string{"name": k.name, "text": k.text, "secret": k.secret})
	}
	raw, err := json.MarshalIndent(all, "", "  ")
	testkit.Must(t, err)
	testkit.Golden(t, "testdata/kinds.json", append(raw, '\n'))
}

func TestRedact_KeepsWhatIsNotSecret(t *testing.T) {
	for _, text := range []string{
		`time="2026-01-02 12:00:00" level=error msg="failed to verify token: context deadline exceeded" component=kubelet`,
		`MountVolume.SetUp failed for volume "config" : secret "app-config" not found`,
		"E0102 12:00:00.000000 1 server.go:10] Unable to authenticate the request: [invalid bearer token, token has expired]",
		"--service-account-private-key-file=/var/lib/k0s/pki/sa.key --token-ttl=1h0m0s --anonymous-auth=false",
		"secretName: tls", "automountServiceAccountToken: false", "passwordFile: /etc/pass", "listen tcp 0.0.0.0:6443: bind: address already in use",
		"https://10.0.0.1:6443/readyz", "sha256:7d1c6b4a0fbb6b3f2a2f6a9d3b1e8c5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b0c9d", "-----BEGIN CERTIFICATE-----",
		"image: registry.k8s.io/kube-proxy:v1.33.8", "basic authentication is off", "docs at https://kubernetes.io/docs/reference/",
		`"data": {"replicas": "3"}`, "token: ", "password: null", "passwd:         files systemd", "data:\n  mode: iptables\n  level: warnings",
	} {
		t.Run(text, func(t *testing.T) {
			if got := string(NewRedactor().Redact("a.txt", []byte(text))); got != text {
				t.Errorf("%s", got)
			}
		})
	}
}

func TestRedact_RemovesKnownValuesInEveryEncoding(t *testing.T) {
	const secret = `kn0wn "value" / with \ spaces`
	quoted := toJSON(t, secret)
	for name, text := range map[string]string{
		"plain": secret, "JSON": quoted, "base64": base64.StdEncoding.EncodeToString([]byte(secret)), "URL": "a?b=kn0wn+%22value%22+%2F+with+%5C+spaces",
		"base64 for URLs": base64.RawURLEncoding.EncodeToString([]byte(secret)),
	} {
		t.Run(name, func(t *testing.T) {
			r := NewRedactor(secret, "short", "kotsadm", "default")
			got := r.Redact("a.txt", []byte("namespace kotsadm, short\nfound "+text+" there\n"))
			if r.Contains(got) || !strings.Contains(string(got), mark(ruleKnown)) || !strings.HasPrefix(string(got), "namespace kotsadm, short\n") {
				t.Errorf("%s", got)
			}
		})
	}
	t.Run("lines of a key", func(t *testing.T) {
		key := "-----BEGIN PRIVATE KEY-----\nMIIfakeLineFakeLineFakeLine01\nfakeEnd02==\n-----END PRIVATE KEY-----\n"
		got := string(NewRedactor(key).Redact("a.txt", []byte("a line MIIfakeLineFakeLineFakeLine01 alone\n-----BEGIN CERTIFICATE-----\n")))
		if strings.Contains(got, "MIIfake") || !strings.Contains(got, "BEGIN CERTIFICATE") {
			t.Errorf("%s", got)
		}
	})
}

func TestRedactLines_KeepsTheNumberOfLines(t *testing.T) {
	lines := []string{"a", "-----BEGIN PRIVATE KEY-----", "bGluZQ==", "-----END PRIVATE KEY-----", "two\nlines", ""}
	got := NewRedactor().RedactLines(lines)
	if want := []string{"a", mark(rulePrivateKey), mark(rulePrivateKey), mark(rulePrivateKey), "two lines", ""}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestRedact_MasksAKeyThatBeginsBeforeTheText(t *testing.T) {
	const key = "-----BEGIN PRIVATE KEY-----\nMIIfake1\n-----END PRIVATE KEY-----\n"
	many := strings.Repeat("line\n", maxKeyLines+1)
	masked := mark(rulePrivateKey) + "\n"
	for name, c := range map[string]struct{ text, want string }{
		"alone":                {"bGluZQ==\n-----END PRIVATE KEY-----\nlast\n", masked + masked + "last\n"},
		"with a prefix":        {"k0s[1]: bGluZQ==\nk0s[1]: -----END RSA PRIVATE KEY-----", masked + mark(rulePrivateKey)},
		"in one line":          {`bGluZQ==\n-----END PRIVATE KEY----- last`, mark(rulePrivateKey) + " last"},
		"after another key":    {"first\n" + key + "bGluZQ==\n-----END PRIVATE KEY-----\n", "first\n" + masked + masked + masked + masked + masked},
		"after a whole one":    {"first\n" + key + "last\n", "first\n" + masked + masked + masked + "last\n"},
		"in the middle":        {many + "-----END PRIVATE KEY-----\n", "line\n" + strings.Repeat(masked, maxKeyLines) + masked},
		"before another key":   {"bGluZQ==\n-----END PRIVATE KEY-----\nlast\n" + key, masked + masked + "last\n" + masked + masked + masked},
		"end of no secret":     {"bGluZQ==\n-----END CERTIFICATE-----\n", "bGluZQ==\n-----END CERTIFICATE-----\n"},
		"beginning and no end": {"first\n-----BEGIN PRIVATE KEY-----\nMIIfake1\n", "first\n" + masked + masked},
	} {
		t.Run(name, func(t *testing.T) {
			if got := string(NewRedactor().Redact("a.log", []byte(c.text))); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestRedact_MasksStructures(t *testing.T) {
	doc := map[string]any{
		"kind": "List", "items": []any{
			map[string]any{"kind": "Secret", "data": map[string]any{"a": "b"}, "metadata": map[string]any{"name": "s"}},
			map[string]any{"env": []any{map[string]any{"name": "API_TOKEN", "value": "abc"}, map[string]any{"name": "PORT", "value": "8080"}}},
			map[string]any{"args": []any{"--password", "word", "--verbose", "--token-file", "/etc/x"}},
			map[string]any{"spec": map[string]any{"signature": map[string]any{"v1": "sig"}, "secret": map[string]any{"secretName": "tls"}}},
		},
	}
	var got struct {
		Items []map[string]any `json:"items"`
	}
	testkit.Must(t, json.Unmarshal(NewRedactor().Redact("a.json", []byte(toJSON(t, doc))), &got))
	want := []string{`{"data":{"a":"***REDACTED:kubernetes-secret***"},"kind":"Secret","metadata":{"name":"s"}}`,
		`{"env":[{"name":"API_TOKEN","value":"***REDACTED:secret-value***"},{"name":"PORT","value":"8080"}]}`,
		`{"args":["--password","***REDACTED:secret-value***","--verbose","--token-file","/etc/x"]}`,
		`{"spec":{"secret":{"secretName":"tls"},"signature":{"v1":"***REDACTED:kubernetes-secret***"}}}`}
	for i, item := range got.Items {
		if text := toJSON(t, item); text != want[i] {
			t.Errorf("%s, want %s", text, want[i])
		}
	}
}

func FuzzRedact(f *testing.F) {
	for _, k := range kinds() {
		f.Add("a.txt", k.text)
		f.Add("a.json", k.text)
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		r := NewRedactor("kn0wnSecretValue")
		clean := r.Redact(name, []byte(text+" kn0wnSecretValue"))
		if r.Contains(clean) {
			t.Errorf("%q", clean)
		}
	})
}
