package format_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap/format"
)

func TestParsePrograms_RefusesWhatIsNoProgram(t *testing.T) {
	good := `{"digest":"` + digest.FromString("x").String() + `","size":5}`
	for name, c := range map[string]struct {
		text string
		want int
		bad  bool
	}{
		"none":             {"", 0, false},
		"an empty list":    {"[]", 0, false},
		"two":              {"[" + good + "," + good + "]", 2, false},
		"too many":         {"[" + strings.Repeat(good+",", 4) + good + "]", 0, true},
		"not JSON":         {"x", 0, true},
		"another value":    {good, 0, true},
		"no digest":        {`[{"size":5}]`, 0, true},
		"another digest":   {`[{"digest":"sha512:` + strings.Repeat("0", 128) + `","size":5}]`, 0, true},
		"a path":           {`[{"digest":"../../etc/passwd","size":5}]`, 0, true},
		"no size":          {strings.ReplaceAll("["+good+"]", "5}", "0}"), 0, true},
		"a size too large": {strings.ReplaceAll("["+good+"]", ":5}", ":2000000000}"), 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			if all, err := format.ParsePrograms(c.text); (err != nil) != c.bad || len(all) != c.want {
				t.Errorf("%v, %v", all, err)
			}
		})
	}
}

func FuzzParsePrograms(f *testing.F) {
	f.Add(`[{"digest":"` + digest.FromString("x").String() + `","size":5}]`)
	f.Fuzz(func(t *testing.T, text string) {
		all, err := format.ParsePrograms(text)
		if err != nil || len(all) == 0 {
			return
		}
		again, err := format.FormatPrograms(all)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := format.ParsePrograms(again); err != nil || !slices.Equal(same, all) {
			t.Errorf("%v becomes %v: %v", all, same, err)
		}
	})
}
