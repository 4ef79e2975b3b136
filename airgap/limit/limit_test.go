package limit

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
)

func TestBudget_HoldsForAnyNumber(t *testing.T) {
	for _, n := range []int64{-1, math.MinInt64, 91, math.MaxInt64 - 5, math.MaxInt64} {
		b := Budget(100)
		if !b.Take(10) || b.Take(n) || !b.Take(90) || b.Take(1) || !b.Take(0) {
			t.Errorf("%d bytes: %d are left", n, b)
		}
	}
}

func TestCheckJSON_CountsValuesOutsideStrings(t *testing.T) {
	for name, c := range map[string]struct {
		text    string
		refused bool
	}{
		"numbers":         {"[" + strings.Repeat("0,", Values) + "0]", true},
		"objects":         {strings.Repeat("{}", Values+1), true},
		"nested":          {strings.Repeat("[", Values+1), true},
		"at the limit":    {"[" + strings.Repeat("0,", Values-1) + "0]", false},
		"one string":      {`"` + strings.Repeat(`,{[\"`, Values) + `"`, false},
		"after a string":  {`["\\"` + strings.Repeat(",0", Values) + "]", true},
		"damaged, no end": {`"\`, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := CheckJSON([]byte(c.text)); (err != nil) != c.refused {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestLimits_AreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/reference/bundle-format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "\n## Limits\n")
	section, _, _ := strings.Cut(rest, "\n## ")
	for name, value := range map[string]string{
		"Document": mib(Document), "Head": mib(Head), "Manifests": mib(Manifests), "Blob": "1 TiB", "SBOM": mib(SBOM), "Window": mib(Window),
		"Signature": "128 bytes", "Record": "64 KiB", "Response": mib(Response), "Blobs": "65,536", "Values": "131,072",
		"Findings": fmt.Sprint(Findings), "DeltaFactor": fmt.Sprintf("%d times", DeltaFactor), "DeltaMargin": mib(DeltaMargin),
	} {
		if !strings.Contains(section, value) {
			t.Errorf("the limit %s, %s, is not in docs/reference/bundle-format.md", name, value)
		}
	}
}

func mib(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }
