package supportbundle

import (
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/testkit"
)

func TestRedact_IsBounded(t *testing.T) {
	for name, unit := range map[string]string{
		"one line": "a", "colons": "token:", "quotes": `\"password\":\"`, "URLs": "http://a:b@c ", "braces": "{", "lists": "[", "dashes": "--token ", "PEM": "-----BEGIN PRIVATE KEY-----",
		"lines of k0s": `time="2026-01-02 12:00:00" level=info msg="{\"level\":\"warn\",\"msg\":\"apply request took too long\",\"took\":\"123ms\"}" component=etcd stream=stderr` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			content := []byte(strings.Repeat(unit, testkit.MaxInput/len(unit)))
			r := NewRedactor("kn0wnSecretValue")
			testkit.CheckBounds(t, func() {
				r.Redact("a.txt", content)
				r.Redact("a.json", content)
			})
		})
	}
}

func BenchmarkRedact(b *testing.B) {
	line := `time="2026-01-02 12:00:00" level=info msg="{\"level\":\"warn\",\"msg\":\"apply request took too long\",\"took\":\"123ms\"}" component=etcd stream=stderr` + "\n"
	content := []byte(strings.Repeat(line, 10_000))
	values := make([]string, 200)
	for i := range values {
		values[i] = strings.Repeat("x", i) + "kn0wnSecretValue"
	}
	r := NewRedactor(values...)
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		r.Redact("a.log", content)
	}
}
